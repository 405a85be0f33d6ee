"""A plugin of pytest: torchvision with a PyTorch that its compiled operators do not fit.

    python -m pytest -p tests.second_torch tests/gradients

Its networks need none of them, but its import looks two of them up.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = "nms", "qnms"


def _declare() -> "torch.library.Library | None":
    """The operators' names without their code, unless the code can be loaded."""
    spec = find_spec("torchvision")
    assert spec is not None and spec.origin is not None
    try:
        torch.ops.load_library(str(next(Path(spec.origin).parent.glob("_C*.so"))))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


LIBRARY = _declare()
"""Held, since the names go with it."""
