"""What a run says of its classifier and its images, read off them."""

import hashlib
from collections.abc import Iterable

import torch

from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet
from chiaroscuro.results import DataFacts, LeftOut, ModelFacts

LISTED = 50
"""So many images that were left out are listed; all are counted."""
_VALUES_A_BATCH = 1_200_000
_MOST_IMAGES = 256


def images_at_a_time(classifier: Classifier) -> int:
    """Images at a time: few enough that little is lost with one, enough to keep cores busy."""
    height, width = classifier.size or (224, 224)
    values = classifier.channels * height * width
    return max(1, min(_MOST_IMAGES, round(_VALUES_A_BATCH / values)))


def weights_digest(classifier: Classifier) -> str:
    """SHA-256 of every parameter and buffer, with their names."""
    digest = hashlib.sha256()
    for name, tensor in classifier.module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def model_facts(classifier: Classifier) -> ModelFacts:
    """What a result says of its classifier, with the digest of its weights."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    return ModelFacts(
        name=classifier.name,
        mean=classifier.mean,
        std=classifier.std,
        channels=classifier.channels,
        multi_label=classifier.multi_label,
        framing=classifier.framing,
        origin=classifier.origin,
        device=str(weight.device),
        dtype=str(weight.dtype).removeprefix("torch."),
        sha256=weights_digest(classifier),
    )


def data_facts(
    images: ImageSet, measured: int, left_out: Iterable[LeftOut], seed: int
) -> DataFacts:
    """How many images of a set were measured, and which could not be."""
    out = tuple(left_out)
    return DataFacts(
        images.source, images.split, measured, images.limit, seed, len(out), out[:LISTED]
    )
