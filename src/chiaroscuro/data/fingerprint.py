"""Whether files are still those that they were, without reading them whole."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

_END = 1 << 16
"""Bytes read of a Parquet file: its end says where every column lies, and what it holds at most."""


def fingerprint(files: Sequence[Path], root: Path | None) -> str | None:
    """A short digest of names, sizes, and the ends of Parquet files; None without files.

    Names are relative to `root`, or bare, so a copy elsewhere has the same one.
    """
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        name = file.name if root is None else file.relative_to(root).as_posix()
        size = file.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        if file.suffix == ".parquet":
            with file.open("rb") as source:
                source.seek(max(0, size - _END))
                digest.update(source.read())
    return digest.hexdigest()[:16]
