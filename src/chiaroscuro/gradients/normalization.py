"""Batch normalisation in eval mode as what it is: a multiply and an add."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class AffineBatchNorm(TorchFunctionMode):
    """Inside, `F.batch_norm` with fixed statistics runs as x * scale + shift.

    scale = weight / sqrt(var + eps), shift = bias - mean * scale. Its backward is one multiply,
    where PyTorch's own also reduces over the batch. The call is taken as it passes, so every
    module that normalises works and none is touched.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None or running_mean.dtype != x.dtype:
        return F.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    scale = torch.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    across = (1, -1) + (1,) * (x.ndim - 2)
    return torch.addcmul(shift.view(across), x, scale.view(across))
