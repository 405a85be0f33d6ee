"""What a run was begun with, and whether another is the same."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from chiaroscuro.catalog import versions
from chiaroscuro.choices import EvaluationSettings
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ResultError
from chiaroscuro.explanations.methods import make_method

_VALUES_A_BATCH = 1_200_000
_MOST_IMAGES = 256


def describe_run(
    settings: EvaluationSettings, classifier: Classifier, images: ImageSet
) -> dict[str, Any]:
    """Everything that decides the rows, in plain values that JSON keeps."""
    chosen = settings.plain()
    chosen["batch"] = settings.batch or images_at_a_time(classifier)
    chosen["threads"] = settings.threads or torch.get_num_threads()
    chosen["split"] = images.split
    background = make_method(settings.method_options, classifier).describe()
    chosen["background_sha256"] = background.get("background_sha256")
    return {
        "schema": "chiaroscuro-run/1",
        "settings": chosen,
        "data": {
            "rows": images.count,
            "labels": None if images.labels is None else list(images.labels),
            "files": images.fingerprint(),
        },
        "engine": device_profile().describe(),
        "model": {**classifier.describe(), "sha256": weights_digest(classifier)},
        "versions": {
            **versions(),
            **{name: version(name) for name in ("datasets", "pyarrow")},
        },
    }


def check_same(
    found: Mapping[str, Any], wanted: Mapping[str, Any], given: EvaluationSettings
) -> None:
    """Raise `ResultError` naming what differs between a run on disk and the one asked for.

    What was left open now takes the run's own value; files of unknown fingerprint are trusted.
    """
    differing = []
    for section in wanted:
        theirs, ours = found.get(section), wanted[section]
        if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
            differing += [] if theirs == ours else [f"{section} {theirs!r}, now {ours!r}"]
            continue
        for name in ours:
            if section == "settings" and name in ("batch", "threads") and not getattr(given, name):
                continue
            if (section, name) == ("data", "files") and theirs.get(name) is None:
                continue
            if theirs.get(name) != ours[name]:
                differing.append(f"{name} {_short(theirs.get(name))}, now {_short(ours[name])}")
    if differing:
        raise ResultError(
            f"the run was begun with another configuration ({'; '.join(differing[:3])}): "
            "choose another place, or repeat it as it was"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def images_at_a_time(classifier: Classifier) -> int:
    """Images at a time: few enough that little is lost with one, enough to keep cores busy."""
    height, width = classifier.size or (224, 224)
    return max(
        1, min(_MOST_IMAGES, round(_VALUES_A_BATCH / (classifier.channels * height * width)))
    )


def weights_digest(classifier: Classifier) -> str:
    """SHA-256 of every parameter and buffer, with their names."""
    digest = hashlib.sha256()
    for name, tensor in classifier.module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
