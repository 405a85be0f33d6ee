"""Whether somebody changes gradients on their way back."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode


class HookWatch(TorchFunctionMode):
    """Notices backward hooks: of modules, and of tensors while a forward pass runs inside.

    Hooks see one class's gradient at a time, so a network that has them is asked that way.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = any(part._backward_hooks or part._backward_pre_hooks for part in module.modules())
        of_all = modules._global_backward_hooks or modules._global_backward_pre_hooks
        self.found = bool(own or of_all)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.register_hook or func is torch.Tensor.register_post_accumulate_grad_hook:
            self.found = True
        return func(*args, **(kwargs or {}))
