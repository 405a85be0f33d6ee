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
    with loading(str(path)):
        return cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever a library raises for missing, broken or unsafe weights into one `ModelError`.

    Unsafe is a pickle with code, which PyTorch refuses wherever a library meets it.
    """
    try:
        yield
    except ChiaroscuroError:
        raise
    except Exception as error:
        if _caused_by_pickle(error):
            reason = (
                "refused, the checkpoint holds more than weights and could run code; convert it to "
                "safetensors where you trust it"
            )
        elif isinstance(error, OSError):
            reason = (
                f"its weights are not on this machine and could not be fetched "
                f"({first_line(error)}); connect once, or use efficientnet-lite0, which works "
                "offline"
            )
        else:
            reason = f"cannot be loaded ({first_line(error)})"
        raise ModelError(f"{what}: {reason}") from error


def _caused_by_pickle(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnpicklingError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
