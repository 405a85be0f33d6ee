"""A forward pass whose backward pass is to be right: what it hides from autograd's graph."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode

from chiaroscuro.classifier import Classifier
from chiaroscuro.gradients.backward.tape import keep_layouts
from chiaroscuro.gradients.probe import check_repeats, values_alone

_HOOKING = (
    Tensor.register_hook,
    Tensor.register_post_accumulate_grad_hook,
    Tensor.grad_fn.__get__,  # type: ignore[union-attr]
)
"""Functions through which a forward pass may hang hooks on tensors and on nodes of its graph."""


class ForwardWatch(TorchFunctionMode):
    """Watches a forward pass for what would make its backward pass wrong.

    `hooked`: somebody may change gradients on their way back: by hooks of modules, of tensors, or
    of nodes (a pass that reads `grad_fn` may hang some there). Hooks see one class's gradient at a
    time, so such a network is differentiated that way. `draws`: a random generator of the network's
    own was asked, whose state nobody can compare.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = any(part._backward_hooks or part._backward_pre_hooks for part in module.modules())
        of_all = modules._global_backward_hooks or modules._global_backward_pre_hooks
        self.hooked, self.draws = bool(own or of_all), False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        self.hooked = self.hooked or func in _HOOKING
        self.draws = self.draws or named.get("generator") is not None
        return func(*args, **named)


def watched_logits(classifier: Classifier, rows: Tensor) -> tuple[Tensor, bool]:
    """Logits (R, K) of a pass that is fit for gradients, and whether hooks may change those.

    Raises `ModelError` where it draws random numbers that change the logits: its gradients would
    belong to other ones.
    """
    before = _random_state(rows.device)
    with ForwardWatch(classifier.module) as watch:
        logits = classifier.logits(rows)
        if watch.draws or before != _random_state(rows.device):
            check_repeats(values_alone(classifier, rows[:1])[0], logits[0], classifier)
    keep_layouts(logits)
    return logits, watch.hooked


def _random_state(device: torch.device) -> tuple[Any, ...]:
    _, numbers, place, *_ = np.random.get_state()
    torches = [torch.get_rng_state()]
    if device.type == "cuda":
        torches.append(torch.cuda.get_rng_state(device))
    drawn = [bytes(state.numpy()) for state in torches]
    return random.getstate(), bytes(np.asarray(numbers)), place, drawn
