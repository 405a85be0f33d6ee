"""What the page asks, and the answers: explanations for the viewer, and changes of the photo."""

import io
import shlex
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from chiaroscuro.catalog import TextClasses, takes_classes
from chiaroscuro.choices import (
    EDIT_MAPS,
    FILLS,
    MAPS,
    METHODS,
    RANDOM,
    parse_fill,
    parse_method,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.reading import Given
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.errors import ChoiceError, unknown
from chiaroscuro.explanations import explain, what_if
from chiaroscuro.images import decode_photo, frame, to_uint8
from chiaroscuro.models import load_classifier
from chiaroscuro.render.shown import pictured
from chiaroscuro.report.pages import data_uri
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import Prediction
from chiaroscuro.viewer import Feed, make_feed
from chiaroscuro.web.jobs import Job
from chiaroscuro.web.visitors import Answer, Upload

FIRST_RIVALS = 10
"""The first answer compares the target with so many of its best rivals, and comes soon."""
STEPS = (1 / 256, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of a change at which the linear prediction is checked while a slider moves."""
PAGE_METHODS = [name for name, row in METHODS.items() if not row.background]
"""Methods that need no files; a page names none."""
PAGE_MAPS = [name for name, row in MAPS.items() if row.kind != "printed"]
_MODELS_KEPT = 3


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an explanation is asked for; `photo` is a key, `tab` and `pane` say who asks."""

    photo: str
    model: str
    tab: str = ""
    pane: int = 0
    target: int | str | None = None
    rivals: str = "all"
    method: str = "gradient"
    fit: str | None = None
    region: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to become of the photo of an explanation: `fraction` of `map` to `fill`."""

    answer: str
    tab: str = ""
    pane: int = 0
    map: str = "active"
    fraction: float = 0.05
    fill: str = "black"


class Models:
    """The classifiers that a page may choose: those that the server was started with."""

    def __init__(self, specs: Sequence[str], device: str, texts: TextClasses | None = None) -> None:
        self.specs = tuple(dict.fromkeys(specs))
        self.device, self.texts = device, texts
        self._loaded: dict[str, Classifier] = {}
        self._lock = threading.Lock()

    def get(self, spec: str) -> Classifier:
        """A classifier by its name in the list; raises `ChoiceError` for any other."""
        if spec not in self.specs:
            raise unknown("model", spec, self.specs)
        with self._lock:
            if spec not in self._loaded:
                while len(self._loaded) >= _MODELS_KEPT:
                    del self._loaded[next(iter(self._loaded))]
                texts = self.texts if takes_classes(spec) else None
                self._loaded[spec] = load_classifier(spec, classes=texts).to(self.device)
            self._loaded[spec] = self._loaded.pop(spec)  # the last used goes last
            return self._loaded[spec]

    def classes(self, spec: str) -> list[str]:
        """The names of a classifier's classes."""
        classifier = self.get(spec)
        return [classifier.label(index) for index in range(classifier.num_classes or 0)]


def explained(
    classifier: Classifier, question: Question, upload: Upload, job: Job, rivals: str
) -> tuple[Answer, Feed]:
    """The photo explained against these rivals, progress told to the job."""
    if question.method not in PAGE_METHODS:
        raise unknown("method", question.method, PAGE_METHODS)
    photo = decode_photo(upload.data, upload.name)
    explanation = explain(
        classifier,
        photo,
        target=question.target,
        maps=PAGE_MAPS,
        rivals=rivals,
        method=question.method,
        fit=question.fit,
        region=question.region or None,
        progress=job.progress,
    )
    answer = Answer(explanation, upload, question.model, question.region)
    return answer, make_feed(explanation, photo.image)


def stored_answer(
    classifier: Classifier, question: Question, upload: Upload, stored: Sequence[StoredMaps]
) -> tuple[Answer, Feed] | None:
    """Maps that are stored of the photo, of the same weights, settings and pixels; else None."""
    if not stored or question.region:
        return None
    photo = decode_photo(upload.data, upload.name)
    fit: Any = question.fit
    pixels, _ = frame(photo, classifier.framing.with_fit(fit), classifier.channels)
    target = None if question.target is None else classifier.class_index(question.target)
    for one in stored:
        settings = one.export.settings
        method = parse_method(question.method, seed=settings.seed)
        asked = (str(parse_rivals(question.rivals)), method, "logit")
        same = (settings.rivals, settings.method_options, settings.score) == asked
        if not same or (found := one.find(photo, pixels)) is None:
            continue
        fits = found.about.target == (found.about.predicted if target is None else target)
        if fits and one.export.model.sha256 == classifier.describe(digest=True).sha256:
            explanation = one.explanation(found)
            note = f"maps of {one.folder}, stored in {settings.dtype}"
            explanation = replace(explanation, notes=(*explanation.notes, note))
            answer = Answer(explanation, upload, question.model)
            return answer, make_feed(explanation, photo.image)
    return None


def first_rivals(classifier: Classifier, question: Question) -> str | None:
    """The rivals of the answer that comes first; None where the whole one comes as soon."""
    few = (classifier.num_classes or FIRST_RIVALS + 2) <= FIRST_RIVALS + 1
    return None if few or question.rivals != "all" else f"top:{FIRST_RIVALS}"


def asked_as(classifier: Classifier, index: int) -> str:
    """What names a class in a question: its label, or "#N" where other classes share that."""
    try:
        own = classifier.class_index(classifier.label(index)) == index
    except ChoiceError:
        own = False
    return classifier.label(index) if own else f"#{index}"


def explanation_message(
    key: str, answer: Answer, feed: Feed, classifier: Classifier, **state: bool
) -> dict[str, Any]:
    """An explanation as the page shows it; `state`: whether it is `whole`, and `stored`."""
    explanation = answer.explanation
    return {
        "state": "explained",
        "answer": key,
        **state,
        "feed": feed,
        "predictions": [
            {**asdict(one), "asked": asked_as(classifier, one.index)}
            for one in explanation.predictions
        ],
        "target": asdict(explanation.target),
        "rivals": explanation.choices.rivals,
        "compared": len(explanation.rivals),
        "notes": [*explanation.image.notes, *explanation.notes],
        "commands": commands(answer),
    }


def changed(classifier: Classifier, change: Change, answer: Answer, job: Job) -> dict[str, Any]:
    """The photo with its highest pixels changed: edited pixels, predictions, linear range."""
    explanation = answer.explanation
    job.check()
    if change.map in explanation.maps and explanation.facts[change.map].kind != "class":
        order: Any = torch.from_numpy(explanation.maps[change.map])
    elif change.map in (*EDIT_MAPS, RANDOM):
        order = change.map
    else:
        raise unknown("map", change.map, change_maps())
    if explanation.region is not None:
        classifier = classifier.at(explanation.region)
    result = what_if(
        classifier,
        Given(np.moveaxis(explanation.pixels, 0, -1), is_pixels=True),
        order,
        change.fraction,
        change.fill,
        target=explanation.target.index,
        steps=STEPS,
    )
    return {
        "state": "changed",
        "edited": data_uri(to_uint8(pictured(result).edited)),
        "pixels": int(result.changed.sum()),
        "of": int(result.changed.size),
        "target": asdict(result.target),
        "shown": [{"before": asdict(b), "after": asdict(a)} for b, a in result.shown],
        "predicted": result.predicted,
        "actual": result.actual,
        "valid_step": result.valid_step,
        "steps": list(result.steps),
        "path": list(result.path),
        "flipped": result.flipped,
        "best": asdict(result.after[0]),
        "notes": list(result.notes),
        "commands": change_commands(answer, change),
    }


def change_maps() -> list[str]:
    """Every order in which the page may change pixels."""
    return [*(name for name in PAGE_MAPS if MAPS[name].kind != "class"), *EDIT_MAPS, RANDOM]


def choices(models: Models, samples: Mapping[str, Path]) -> dict[str, Any]:
    """Everything that the page lets its visitor choose."""
    return {
        "models": list(models.specs),
        "methods": [{"name": name, "reads": METHODS[name].reads} for name in PAGE_METHODS],
        "maps": [{"name": name, "reads": MAPS[name].reads} for name in PAGE_MAPS],
        "orders": change_maps(),
        "fills": [
            {"name": fill, "reads": FILLS[parse_fill(fill).name].reads}
            for fill in ("black", "white", "mean", "blur", "noise", "+0.1", "-0.1")
        ],
        "samples": list(samples),
    }


def commands(answer: Answer) -> dict[str, str]:
    """The line of a shell and the lines of Python that compute the same."""
    chosen = answer.explanation.choices
    asked = {"rivals": chosen.rivals, "method": chosen.method.name, "maps": [*chosen.maps]}
    return _lines(answer, "explain", "explanation", asked)


def change_commands(answer: Answer, change: Change) -> dict[str, str]:
    """The lines that compute a change by themselves."""
    chosen = answer.explanation.choices
    asked: dict[str, Any] = {name: getattr(change, name) for name in ("map", "fraction", "fill")}
    if change.map not in (*EDIT_MAPS, RANDOM):
        asked |= {"rivals": chosen.rivals, "method": chosen.method.name}
    return _lines(answer, "what_if", "result", asked)


def _lines(answer: Answer, function: str, result: str, asked: dict[str, Any]) -> dict[str, str]:
    """The lines that call a function, with what it is asked about the photo of an answer."""
    explained, source = answer.explanation, answer.upload.path or answer.upload.name
    asked = {**asked, "fit": explained.choices.fit}
    asked |= {"region": answer.region} if answer.region else {}
    words = ["chiaroscuro", function.replace("_", "-"), source, f"--model={answer.model}"]
    words.append(f"--target={_by_index(explained.target)}")
    for name, value in asked.items():
        several = value if isinstance(value, list) else [value]
        words += [f"--{'map' if name == 'maps' else name}={one}" for one in several]
    more = ""
    if (texts := explained.model.texts) is not None:
        words += [f"--classes={name}" for name in texts.names]
        words += [f"--template={template}" for template in texts.templates]
        more = f", classes={texts.names!r}, templates={texts.templates!r}"
    options = {"target": explained.target.index, **asked}
    python = (
        f"from chiaroscuro import {function}, load_classifier\n\n"
        f"{result} = {function}(load_classifier({answer.model!r}{more}), {source!r}, "
        f"{', '.join(f'{name}={value!r}' for name, value in options.items())})"
    )
    return {"shell": shlex.join(words), "python": python}


def _by_index(target: Prediction) -> str:
    """A class for a shell; where digits are names of classes, a bare index would be one."""
    return f"#{target.index}" if target.label.isdecimal() else str(target.index)


def archive(explanation: Explanation) -> bytes:
    """The folder that `explanation.save` writes, as a ZIP file."""
    buffer = io.BytesIO()
    with TemporaryDirectory() as place:
        folder = explanation.save(Path(place) / "explanation")
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                target.write(file, file.relative_to(folder.parent))
    return buffer.getvalue()
