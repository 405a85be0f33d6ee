"""Whether a result of Captum is what its method is defined to be: some networks fail in silence.

Captum changes modules of the kinds that it knows. Functions that a network calls by itself, and
other kinds of modules, keep their plain gradient, and the result is something without a name.
"""

import re
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.errors import ModelError
from chiaroscuro.gradients.captum.pixel_module import PixelModule

_ONLY_SHAPE = {
    "__get__", "size", "dim", "flatten", "view", "reshape", "permute", "transpose", "contiguous",
    "clone", "detach", "squeeze", "unsqueeze", "to", "expand", "register_hook", "__len__",
}  # fmt: skip


class ModuleTrace(TorchFunctionMode):
    """Inside, calls of a network's modules are counted, and those of functions outside its leaves.

    `outside` lists (module, function) of every call that a module with parts makes itself.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {part: name or "the network itself" for name, part in module.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.last: nn.Module | None = None
        self.outside: list[tuple[nn.Module, str]] = []
        self._open: list[nn.Module] = []

    def __enter__(self) -> "ModuleTrace":
        hooks = nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter_module),
            hooks.register_module_forward_hook(self._leave_module, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def _enter_module(self, module: nn.Module, _: object) -> None:
        if module in self.names:
            self.calls[module] += 1
            self.last = module
            self._open.append(module)

    def _leave_module(self, module: nn.Module, *_: object) -> None:
        if module in self.names and self._open:
            self._open.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        inner = self._open[-1] if self._open else None
        if inner is not None and name not in _ONLY_SHAPE and next(inner.children(), None):
            self.outside.append((inner, name.strip("_")))
        return func(*args, **(kwargs or {}))

    def title(self, module: nn.Module) -> str:
        """A module's place in the network and its type."""
        return f"{self.names[module]} ({type(module).__name__})"

    def outside_call(self, *names: str) -> str | None:
        """Where the network first calls a function (one of `names`) that belongs to no leaf."""
        for module, name in self.outside:
            if not names or name in names:
                return f"{self.title(module)}, which calls {name} itself"
        return None

    def failure_location(self, error: BaseException) -> str:
        """The module that an error is about: by its type, by its form, or the last one called."""
        texts = [str(link) for link in _chain(error)]
        kinds = [kind for text in texts for kind in re.findall(r"<class '([\w.]+)'>", text)]
        for part in self.names:
            if f"{type(part).__module__}.{type(part).__qualname__}" in kinds:
                return self.title(part)
        passes = self.calls[next(iter(self.names))] or 1
        shown = [p for p in self.names if any(f"odule {p!r} " in text for text in texts)]
        reused = [part for part in shown if self.calls[part] > passes]
        if reused:
            return f"{self.title(reused[0])}, used {self.calls[reused[0]] // passes} times"
        if shown or self.last is None:
            return self.title(shown[0]) if shown else "a module that it does not name"
        return f"{self.title(self.last)}, the last one called"


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and, where `Classifier.logits` wrapped it, what caused it."""
    links = []
    while error is not None:
        links.append(error)
        error = error.__cause__ if isinstance(error, ModelError) else None
    return links


_TOLERANCE = 0.1
"""Share of the logit that may be missing: rules divide by small numbers."""
_LINEAR = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity,
    nn.Flatten, nn.Dropout, nn.Dropout2d,
)  # fmt: skip

Check = Callable[[PixelModule, ModuleTrace, Tensor, Tensor, Tensor], None]
"""Raises `ModelError` unless attributions of these classes are what the method says."""


def _check_guided(
    model: PixelModule, trace: ModuleTrace, _: Tensor, __: Tensor, ___: Tensor
) -> None:
    """Every ReLU must be an `nn.ReLU`, and there must be one."""
    outside = trace.outside_call("relu", "relu_", "clamp_min", "clamp")
    if outside is None and any(isinstance(part, nn.ReLU) for part in trace.calls):
        return
    others = (p for p in trace.calls if "activation" in type(p).__module__)
    other = next((part for part in others if not isinstance(part, nn.ReLU)), None)
    where = outside or (trace.title(other) if other else _first(trace, _LINEAR))
    raise ModelError(
        f"guided-backprop failed on {model.classifier.name} at {where}: Captum changes nn.ReLU "
        "modules alone, so this would be the plain gradient, wholly or in part"
    )


def _check_deeplift(
    model: PixelModule, trace: ModuleTrace, pixels: Tensor, classes: Tensor, attributions: Tensor
) -> None:
    """The attributions must add up to the logit's difference from black."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    with torch.no_grad():
        both = [model(place).gather(1, classes[:, None])[:, 0] for place in (pixels, 0 * pixels)]
    gap = (attributions.sum(dim=(1, 2, 3)) - (both[0] - both[1])).abs()
    size = torch.maximum(both[0].abs(), (both[0] - both[1]).abs())
    if bool((gap <= _TOLERANCE * size).all()):
        return
    worst = int((gap / size).argmax())
    raise ModelError(
        f"deeplift failed on {model.classifier.name} at "
        f"{_first(trace, (*_LINEAR, *SUPPORTED_NON_LINEAR))}: Captum has no rule for it, and "
        f"the attributions of image {worst} miss the logit's difference from black by "
        f"{float(gap[worst]):.3g} of {float((both[0] - both[1])[worst]):.3g}"
    )


def _check_lrp(
    model: PixelModule, trace: ModuleTrace, pixels: Tensor, classes: Tensor, attributions: Tensor
) -> None:
    """With ReLUs alone, the epsilon rule is input x gradient (Ancona et al. 2018)."""
    if any(isinstance(part, nn.Tanh) for part in trace.calls):
        return
    inputs = pixels.clone().requires_grad_(True)
    logits = model(inputs).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(logits, inputs)
    expected = gradient * pixels
    gap = (attributions - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    if bool((gap <= _TOLERANCE).all()):
        return
    where = trace.outside_call() or "a module that it does not name"
    raise ModelError(
        f"lrp failed on {model.classifier.name} at {where}: Captum's rules are for modules alone, "
        f"and the relevance of image {int(gap.argmax())} is off by {float(gap.max()):.3g} times "
        "its size"
    )


def _first(trace: ModuleTrace, known: tuple[type[nn.Module], ...]) -> str:
    """The first leaf that is of no known kind, or a function called outside of leaves."""
    for part in trace.calls:
        if not isinstance(part, known) and next(part.children(), None) is None:
            return trace.title(part)
    return trace.outside_call() or "a module that it does not name"


CHECKS: dict[str, Check] = {
    "guided-backprop": _check_guided,
    "deeplift": _check_deeplift,
    "lrp": _check_lrp,
}
"""The check of each method's result; a Captum attribution that was handed in is not checked."""
