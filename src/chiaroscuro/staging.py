"""Folders that appear whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chiaroscuro.errors import ExistingResultError, ResultError, unwritable


@contextmanager
def staged_folder(folder: str | Path, marker: str, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well.

    On an error nothing is left behind, and a folder that was there stays as it was. `marker` is a
    file that every folder of this kind holds: only such a folder is ever overwritten. Raises
    `ResultError` when `folder` may not be replaced or cannot be written.
    """
    final = Path(folder)
    check_free(final, marker, overwrite=overwrite)
    stage = _beside(final)
    try:
        stage.mkdir(parents=True)
        yield stage
        _swap(stage, final)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_free(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Raise `ResultError` unless nothing is at `folder`, or it may be replaced."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise ExistingResultError(
            f"{folder} exists already: choose another place, or overwrite (--force)"
        )
    if not (folder / marker).is_file():
        raise ResultError(f"{folder} holds no {marker}: not one of ours, so it is not overwritten")


def _beside(final: Path) -> Path:
    return final.parent / f".{final.name}.{secrets.token_hex(6)}"


def _swap(stage: Path, final: Path) -> None:
    if not os.path.lexists(final):
        stage.replace(final)
        return
    aside = _beside(final)
    final.replace(aside)
    try:
        stage.replace(final)
    except OSError:
        aside.replace(final)
        raise
    shutil.rmtree(aside, ignore_errors=True)
