"""Where images come from: a source's word to one stream of rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiaroscuro.data.rows import ParquetRows, Rows, StreamedRows
from chiaroscuro.data.sets import DATASETS, DatasetChoice
from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    InputError,
    MissingFileError,
    first_line,
    missing_extra,
)
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.images import find_photos

TEST_SPLITS = ("test", "validation", "val")
"""The splits that are evaluated unless another is named, in this order."""
_SPLITS = (*TEST_SPLITS, "train")


@dataclass(frozen=True)
class Stream:
    """One split, with images left as bytes or paths: of its rows, the columns `image` and `label`.

    `count` is the number of rows, None where only reading on would tell. `root` is the folder that
    ids of files are relative to; rows without a file of their own have their number as id.
    `files` are those that are read, none where the hub is.
    """

    rows: Rows
    split: str
    image: str
    label: str | None
    labels: tuple[str, ...] | None
    count: int | None
    root: Path | None = None
    files: tuple[Path, ...] = ()


def open_stream(source: str, split: str | None) -> Stream:
    """A folder, Parquet file or name as a stream.

    Raises `InputError` for one that cannot be read, `MissingExtraError` without the `data` extra.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _open_folder(path, split)
        if path.suffix == ".parquet":
            return _open_parquet({path.stem: [path]}, path.stem, source)
        return _open_name(source, split)
    except ImportError as error:
        package = "pyarrow" if (error.name or "").startswith("pyarrow") else "datasets"
        raise missing_extra(f"data {source}", package, "data") from error
    except ChiaroscuroError:
        raise
    except Exception as error:  # the library's own tree has no common root
        raise InputError(f"{source}: cannot be read as images ({first_line(error)})") from error


def _open_folder(folder: Path, split: str | None) -> Stream:
    files = _parquet_splits(folder)
    if files:
        return _open_parquet(files, _pick(split, files, str(folder)), str(folder))
    splits = {name: folder / name for name in _SPLITS if (folder / name).is_dir()}
    if splits:
        chosen = _pick(split, splits, str(folder))
        return _open_classes(splits[chosen], chosen)
    if split is not None:
        raise ChoiceError(f"{folder} has no split {split!r}: it is one folder of images")
    return _open_classes(folder, folder.resolve().name)


def _parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Parquet files by split, named `test.parquet` or, as the hub does, `test-00000-of-2.parquet`.

    They may lie in the folder or in its `data` folder.
    """
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        for file in sorted(place.glob("*.parquet")):
            found.setdefault(file.stem.split("-")[0], []).append(file)
    return found


def _pick(split: str | None, known: Iterable[str], source: str) -> str:
    names = list(known)
    if split is not None:
        if split not in names:
            raise ChoiceError(f"{source} has no split {split!r}: known are {', '.join(names)}")
        return split
    return next((name for name in _SPLITS if name in names), names[0])


def _open_parquet(files: dict[str, list[Path]], split: str, source: str) -> Stream:
    missing = [str(file) for file in files[split] if not file.is_file()]
    if missing:
        raise MissingFileError(f"{missing[0]}: no such file")
    rows = ParquetRows(files[split])
    if rows.image is None:
        raise _no_images(source, rows.columns)
    names = None if rows.names is None else tuple(rows.names)
    return Stream(rows, split, rows.image, rows.label, names, rows.count, files=tuple(files[split]))


def _open_classes(folder: Path, split: str) -> Stream:
    """A folder of class folders; a flat folder of photos has no labels."""
    folder = folder.absolute()  # as `datasets` names the files of it
    files = [str(file) for file in find_photos([folder]) if file != folder]
    if not files:
        raise InputError(f"{folder}: no images and no Parquet files in it")
    flat = all(Path(file).parent == folder for file in files)
    rows = _load("imagefolder", "train", data_files={"train": files}, drop_labels=flat)
    paths = [Path(file) for file in files]
    return _stream(rows, split, len(files), str(folder), root=folder, files=paths)


def _open_name(source: str, split: str | None) -> Stream:
    choice = DATASETS.get(source)
    if choice is None and ("/" not in source or source.startswith((".", "/"))):
        known = ", ".join(DATASETS)
        raise MissingFileError(
            f"data {source!r}: no such folder or file; known names are {known}, "
            "or OWNER/NAME of the Hugging Face hub"
        )
    if choice is None:
        return _open_hub(source, split)
    chosen = _pick(split, choice.rows, source)
    options = {"data_dir": choice.folder, "revision": choice.revision}
    rows = _reach(choice.hub, chosen, **{k: v for k, v in options.items() if v})
    return _stream(rows, chosen, choice.rows[chosen], source, choice=choice)


def _open_hub(name: str, split: str | None) -> Stream:
    if split is None:
        from datasets import get_dataset_split_names

        split = _pick(None, _reached(name, get_dataset_split_names, name), name)
    rows = _reach(name, split)
    about = (rows.info.splits or {}).get(split)
    return _stream(rows, split, about.num_examples if about else None, name)


def _reach(name: str, split: str, **options: Any) -> Any:
    return _reached(name, _load, name, split, **options)


def _reached(name: str, call: Any, *arguments: Any, **options: Any) -> Any:
    import datasets  # noqa: F401, so that the hub's switch reaches it

    try:
        with hub_if_reachable():
            return call(*arguments, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"data set {name} is neither on this machine nor reachable ({first_line(error)}): "
            "connect to the internet, or give a folder"
        ) from error


def _load(kind: str, split: str, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(kind, split=split, streaming=True, **options)


def _stream(
    rows: Any,
    split: str,
    count: int | None,
    source: str,
    *,
    root: Path | None = None,
    choice: DatasetChoice | None = None,
    files: Iterable[Path] = (),
) -> Stream:
    from datasets import ClassLabel, Image

    features = rows.features or {}
    image = choice.image if choice else _first(features, Image)
    if image is None or image not in features:
        raise _no_images(source, features)
    label = choice.label if choice else _first(features, ClassLabel)
    names = choice.labels if choice else tuple(features[label].names) if label else None
    undecoded = StreamedRows(rows.cast_column(image, Image(decode=False)))
    return Stream(undecoded, split, image, label, names, count, root, tuple(files))


def _no_images(source: str, columns: Iterable[str]) -> InputError:
    return InputError(f"{source}: no column of images; it has {', '.join(columns) or 'none'}")


def _first(features: Any, kind: type) -> str | None:
    return next((name for name, feature in features.items() if isinstance(feature, kind)), None)
