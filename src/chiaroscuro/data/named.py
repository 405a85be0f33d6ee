"""Data sets by name, of the Hugging Face hub."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chiaroscuro.data.folders import pick_split
from chiaroscuro.data.rows import Column, Columns, ImageRow, Split, choose_columns, describe_columns
from chiaroscuro.errors import InputError, MissingFileError, first_line
from chiaroscuro.hub import hub_if_reachable


@dataclass(frozen=True, slots=True)
class DatasetChoice:
    """A data set of the Hugging Face hub: where it lies, its columns, splits and class names.

    `rows` is the number of images of each split as distributed.
    """

    hub: str
    image: str
    label: str
    rows: dict[str, int]
    labels: tuple[str, ...]
    folder: str | None = None
    revision: str | None = None


_CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_IMAGENETTE = (
    "tench", "English springer", "cassette player", "chain saw", "church", "French horn",
    "garbage truck", "gas pump", "golf ball", "parachute",
)  # fmt: skip

DATASETS: dict[str, DatasetChoice] = {
    "cifar10": DatasetChoice(
        "uoft-cs/cifar10", "img", "label", {"train": 50_000, "test": 10_000}, _CIFAR10
    ),
    "imagenette": DatasetChoice(
        "frgfm/imagenette",
        "image",
        "label",
        {"train": 9_469, "validation": 3_925},
        _IMAGENETTE,
        folder="full_size",
        # The set is published as a script, which runs code; the hub's own Parquet copy does not.
        revision="refs/convert/parquet",
    ),
}
"""Short names; every other name is taken as one of the hub's, OWNER/NAME."""


def open_name(source: str, split: str | None, image: str | None, label: str | None) -> Split:
    """A name of `DATASETS` or of the hub as a stream."""
    choice = DATASETS.get(source)
    if choice is not None:
        name = pick_split(split, choice.rows, source)
        options = {"data_dir": choice.folder, "revision": choice.revision}
        stream = _reached(choice.hub, _load, name, **{k: v for k, v in options.items() if v})
        image, label = image or choice.image, label or choice.label
        return _open_stream(stream, name, choice.rows[name], source, image, label)
    if "/" not in source or source.startswith((".", "/")):
        raise MissingFileError(
            f"data {source!r}: no such folder or file; known names are {', '.join(DATASETS)}, "
            "or OWNER/NAME of the Hugging Face hub"
        )
    split = pick_split(split, _reached(source, _splits), source)
    stream = _reached(source, _load, split)
    about = (stream.info.splits or {}).get(split)
    return _open_stream(stream, split, about.num_examples if about else None, source, image, label)


@dataclass(frozen=True)
class HubRows:
    """Rows of a stream of the `datasets` library, which is read from its start on."""

    stream: Any
    columns: Columns
    split: str

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        chosen = None if wanted is None else frozenset(wanted)
        rows = self.stream.skip(first) if first else self.stream
        for number, values in enumerate(rows, first):
            if chosen is None or number in chosen:
                yield self.columns.row(f"{self.split}#{number}", values)


def _open_stream(
    stream: Any, split: str, count: int | None, source: str, image: str | None, label: str | None
) -> Split:
    from datasets import Image

    features = stream.features or {}
    image, label = choose_columns([_column(*f) for f in features.items()], source, image, label)
    names = _class_names(features[label]) if label else None
    if source in DATASETS and label == DATASETS[source].label:
        names = DATASETS[source].labels
    columns = Columns(image, label if names else None, names)
    rows = HubRows(stream.cast_column(image, Image(decode=False)), columns, split)
    return Split(rows, split, names, count, notes=(describe_columns(image, columns.label),))


def _column(name: str, feature: Any) -> Column:
    from datasets import ClassLabel, Image

    tag = type(feature).__name__
    return Column(name, isinstance(feature, Image), isinstance(feature, ClassLabel), tag)


def _class_names(feature: Any) -> tuple[str, ...] | None:
    names = feature.names or map(str, range(feature.num_classes or 0))
    return tuple(names) or None


def _splits(name: str) -> list[str]:
    from datasets import get_dataset_split_names

    return list(get_dataset_split_names(name))


def _load(name: str, split: str, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(name, split=split, streaming=True, **options)


def _reached(name: str, call: Any, *arguments: Any, **options: Any) -> Any:
    import datasets  # noqa: F401, so that the hub's switch reaches it

    try:
        with hub_if_reachable():
            return call(name, *arguments, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"data set {name} is neither on this machine nor reachable ({first_line(error)}): "
            "connect to the internet, or give a folder"
        ) from error
