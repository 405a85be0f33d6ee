"""Data sets by name, of the Hugging Face hub."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chiaroscuro.data.columns import ChosenColumns, Column, Columns, choose_columns
from chiaroscuro.data.folders import pick_split
from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.errors import InputError, first_line
from chiaroscuro.hub import hub_if_reachable


@dataclass(frozen=True, slots=True)
class DatasetChoice:
    """A data set of the Hugging Face hub: where it lies, its splits and class names.

    `rows` is the number of images of each split as distributed.
    """

    hub: str
    rows: dict[str, int]
    labels: tuple[str, ...]
    folder: str | None = None
    revision: str | None = None


DATASETS = {
    "cifar10": DatasetChoice(
        "uoft-cs/cifar10",
        {"train": 50_000, "test": 10_000},
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "imagenette": DatasetChoice(
        "frgfm/imagenette",
        {"train": 9_469, "validation": 3_925},
        ("tench", "English springer", "cassette player", "chain saw", "church", "French horn",
         "garbage truck", "gas pump", "golf ball", "parachute"),
        folder="full_size",
        # The set is published as a script, which runs code; the hub's own Parquet copy does not.
        revision="refs/convert/parquet",
    ),
}  # fmt: skip
"""Short names; every other name is taken as one of the hub's, OWNER/NAME."""


def open_name(source: str, split: str | None, chosen: ChosenColumns) -> ImageSet:
    """A name of `DATASETS` or of the hub as a stream."""
    choice = DATASETS.get(source)
    if choice is not None:
        split = pick_split(split, choice.rows, source)
        where = {"data_dir": choice.folder, "revision": choice.revision}
        options = {name: value for name, value in where.items() if value}
        stream = _ask(choice.hub, "load_dataset", split=split, streaming=True, **options)
        return _open_stream(stream, split, choice.rows[split], source, chosen, choice.labels)
    split = pick_split(split, _ask(source, "get_dataset_split_names"), source)
    stream = _ask(source, "load_dataset", split=split, streaming=True)
    about = (stream.info.splits or {}).get(split)
    return _open_stream(stream, split, about.num_examples if about else None, source, chosen)


@dataclass(frozen=True)
class HubRows:
    """Rows of a stream of the `datasets` library, which is read from its start on."""

    stream: Any
    columns: Columns
    split: str

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        numbers = None if wanted is None else frozenset(wanted)
        rows = self.stream.skip(first) if first else self.stream
        for number, values in enumerate(rows, first):
            if numbers is None or number in numbers:
                yield self.columns.row(f"{self.split}#{number}", values)


def _open_stream(
    stream: Any, split: str, count: int | None, source: str, chosen: ChosenColumns,
    names: tuple[str, ...] | None = None,
) -> ImageSet:  # fmt: skip
    """`names`: of the set's own classes; texts and plain numbers of a stream are no classes."""
    from datasets import ClassLabel, Image

    features = stream.features or {}
    described = [_column(name, kind, bool(names)) for name, kind in features.items()]
    image, label = choose_columns(described, source, chosen)
    if isinstance(features[image], Image):
        stream = stream.cast_column(image, Image(decode=False))
    if label is not None and (names is None or chosen[1]) and type(features[label]) is ClassLabel:
        kind = features[label]
        names = tuple(kind.names or map(str, range(kind.num_classes or 0))) or None
    columns = Columns(image, label, names if label else None)
    rows = HubRows(stream, columns, split)
    return ImageSet(source, split, columns.names, count, rows, (columns.note,))


def _column(name: str, feature: Any, are_named: bool) -> Column:
    """`are_named`: plain numbers may be classes, since their names are known."""
    from datasets import ClassLabel, Image

    kind = getattr(feature, "dtype", "")
    images = isinstance(feature, Image) or kind in ("binary", "large_binary")
    images = images or (isinstance(feature, dict) and "bytes" in feature)
    classes = isinstance(feature, ClassLabel) or (are_named and kind.startswith("int"))
    return Column(name, images, classes, type(feature).__name__)


def _ask(name: str, function: str, **options: Any) -> Any:
    """What a function of the `datasets` library says of a name, at once where no hub answers."""
    import datasets

    try:
        with hub_if_reachable():
            return getattr(datasets, function)(name, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"data set {name} is neither on this machine nor reachable ({first_line(error)}): "
            "connect to the internet, or give a folder"
        ) from error
