"""Data sets that have a short name here."""

from dataclasses import dataclass


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
