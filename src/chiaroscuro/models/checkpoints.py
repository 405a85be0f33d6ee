"""Weights read as data only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from torch import Tensor

from chiaroscuro.errors import ChiaroscuroError, ModelError, first_line


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file of `torch.save`; raises `ModelError` if it would run code."""
    with refusing_code(str(path)):
        return cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))


@contextmanager
def refusing_code(what: str) -> Iterator[None]:
    """Turn the refusal of a pickle with code, wherever a library meets it, into a `ModelError`."""
    try:
        yield
    except Exception as error:
        if not _caused_by_pickle(error):
            raise
        raise ModelError(
            f"{what}: refused, the checkpoint holds more than weights and could run code; "
            "convert it to safetensors where you trust it"
        ) from error


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever a library raises for missing or broken weights into one `ModelError`."""
    with refusing_code(what):
        try:
            yield
        except ChiaroscuroError:
            raise
        except Exception as error:
            if _caused_by_pickle(error):
                raise
            if isinstance(error, OSError):
                raise no_weights(what, error) from error
            raise ModelError(f"{what}: cannot be loaded ({first_line(error)})") from error


def _caused_by_pickle(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnpicklingError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def no_weights(spec: str, error: BaseException) -> ModelError:
    """The error for weights that are neither on this machine nor reachable."""
    return ModelError(
        f"{spec}: its weights are not on this machine and could not be fetched "
        f"({first_line(error)}); connect once, or use efficientnet-lite0, which works offline"
    )
