"""Methods that change the backward pass, through Captum: one class after another, and checked.

Captum changes modules of the kinds that it knows. Functions that a network calls by itself, and
other kinds of modules, keep their plain gradient, and the result is something without a name.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ModelError, NotFiniteError, first_line, missing_extra
from chiaroscuro.gradients.backward.program import flattened
from chiaroscuro.gradients.backward.tape import keep_layouts
from chiaroscuro.gradients.methods import Method, Points
from chiaroscuro.gradients.reducers import Extremes
from chiaroscuro.guard import attributes_as_found

PIXELS_AT_ONCE = 4 * 224 * 224
"""Pixels of all images together that Captum is handed at a time."""
_SAME_LOGITS = 1e-3
_TOLERANCE = 0.1
"""Share of the logit that may be missing: rules divide by small numbers."""
_LINEAR = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity,
    nn.Flatten, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
_RELUS = ("relu", "clamp_min", "clamp")
_ONLY_SHAPE = {
    "__get__", "size", "dim", "flatten", "view", "reshape", "permute", "transpose", "contiguous",
    "clone", "detach", "squeeze", "unsqueeze", "to", "expand", "register_hook", "__len__",
}  # fmt: skip


class PixelModule(nn.Module):
    """A classifier as an `nn.Module` from pixels in [0, 1] to logits.

    Normalization is a convolution, so that rules for layers hold for it too. The classifier's own
    module is a part of this one, not a copy.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> PixelModule(Classifier(net, mean=0.5, std=0.2))(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self.normalize = _normalization(classifier)
        # What reads logits out of the module's output, with the normalization done already.
        self.classifier = copy.copy(classifier)
        self.classifier.mean = self.classifier.std = None

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits = self.classifier.logits(self.normalize(pixels))
        keep_layouts(logits)
        return logits


def _normalization(classifier: Classifier) -> nn.Module:
    if classifier.mean is None and classifier.std is None:
        return nn.Identity()
    channels, weight = classifier.channels, next(classifier.module.parameters(), torch.zeros(()))
    std = torch.tensor(classifier.std or (1.0,) * channels, dtype=torch.float64)
    mean = torch.tensor(classifier.mean or (0.0,) * channels, dtype=torch.float64)
    layer = nn.Conv2d(channels, channels, 1, groups=channels)
    layer.weight = nn.Parameter((1 / std).view(-1, 1, 1, 1), requires_grad=False)
    layer.bias = nn.Parameter(-mean / std, requires_grad=False)
    return layer.to(device=weight.device, dtype=weight.dtype)


@dataclass(frozen=True, eq=False)
class CaptumMethod:
    """A method of `CAPTUM` by name, or a Captum attribution on a model of its own."""

    name: str
    attribution: Any = None

    def describe(self) -> dict[str, Any]:
        """Name and version in plain values."""
        return {"name": self.name, "captum": _captum().__version__}


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError:
        raise missing_extra("a method through Captum", "captum", "adapters") from None
    return captum


def _lrp(attr: Any, model: PixelModule) -> Any:
    from captum.attr._utils.lrp_rules import EpsilonRule

    for part in model.modules():
        part.__dict__.pop("rule", None)  # a rule of the user's own is for an attribution of theirs
        # Captum knows no rule for these, and for what only reshapes or passes on any rule is exact.
        if isinstance(part, nn.Identity | nn.Flatten) and not list(part.children()):
            part.rule = EpsilonRule()
    return attr.LRP(model)


CAPTUM: dict[str, Callable[[Any, PixelModule], Any]] = {
    "guided-backprop": lambda attr, model: attr.GuidedBackprop(model),
    "deeplift": lambda attr, model: attr.DeepLift(model),
    "lrp": _lrp,
}
"""Every method that runs through Captum: `captum.attr` and a network to an attribution on it."""


def read_method(method: Any, score: str = "logit") -> Method | Points | CaptumMethod:
    """Read a name, a `Method`, `Points` or a Captum attribution; raises `ChoiceError`."""
    if isinstance(method, str):
        method = Method(method)
    if isinstance(method, Method) and method.is_captum:
        method = CaptumMethod(method.name)
    elif hasattr(method, "attribute") and hasattr(method, "forward_func"):
        method = CaptumMethod(f"captum:{type(method).__name__}", method)
    if not isinstance(method, Method | Points | CaptumMethod):
        wanted = "a name, a Method, Points, or a Captum attribution"
        raise ChoiceError(f"method is a {type(method).__name__}: expected {wanted}")
    if isinstance(method, CaptumMethod) and score != "logit":
        raise ChoiceError(f"method {method.name!r} explains logits: score {score!r} is not for it")
    return method


def captum_extremes(
    classifier: Classifier,
    pixels: Tensor,
    method: CaptumMethod,
    indices: Tensor,
    weights: Tensor | None,
    count: Callable[[int], object],
    *,
    argmax: bool,
) -> Extremes:
    """Own attribution and extremes over rivals for a few images, a class at a time.

    `indices` (G, M): the target, then its rivals. `weights` (G, K): their mean, no extremes.
    """
    own = np.tile(np.arange(indices.shape[1]) == 0, (len(pixels), 1))
    extremes = Extremes(flattened(pixels, 1), own, ~own, indices if argmax else None)
    mean = torch.zeros_like(extremes.target)
    model = PixelModule(classifier)
    _check_same_logits(model, pixels, method)
    for index, classes in enumerate(indices.T):
        attribution = flattened(_attribute(model, method, pixels, classes, checked=index == 0), 1)
        if weights is None or index == 0:
            extremes.add(attribution[None], index, slice(None))
        else:
            # A row with fewer rivals repeats its last one, which must count once.
            again = (indices[:, 1:index] == classes[:, None]).any(dim=1)
            share = weights.gather(1, classes[:, None])[:, 0].masked_fill(again, 0)
            mean += share[:, None] * attribution
        count(len(indices))
    if weights is not None:
        extremes.high = extremes.low = mean
    return extremes


def _attribute(
    model: PixelModule, method: CaptumMethod, pixels: Tensor, classes: Tensor, *, checked: bool
) -> Tensor:
    """One class of each image: (G, C, H, W). Captum's hooks, rules and caches go at once."""
    inputs = pixels.clone().requires_grad_(True)
    failed = f"{method.name} failed on {model.classifier.name}"
    with attributes_as_found(model), warnings.catch_warnings(), _Trace(model.module) as trace:
        # Captum warns that it hangs hooks on the network, and may change what it finds there.
        warnings.simplefilter("ignore", UserWarning)
        try:  # one attribution is good for one class, since rules are used up
            attribution = method.attribution or CAPTUM[method.name](_captum().attr, model)
            attributions = attribution.attribute(inputs, target=classes)
        except Exception as error:
            reason = first_line(error)
            raise ModelError(f"{failed}{trace.blamed(reason)}: {reason}") from error
    if not isinstance(attributions, Tensor) or attributions.shape != pixels.shape:
        output = f"{type(attributions).__name__} {tuple(getattr(attributions, 'shape', ()))}"
        raise ModelError(f"{method.name} gave {output}: expected {tuple(pixels.shape)}")
    attributions = attributions.detach().to(pixels.dtype)
    check = _CHECKS.get(method.name) if checked else None
    if wrong := check and check(model, trace, pixels, classes, attributions):
        raise ModelError(f"{failed} at {wrong}")
    if not bool(attributions.isfinite().all()):
        raise NotFiniteError(
            f"{method.name} gave NaN or infinite values on {model.classifier.name}"
        )
    return attributions


def _check_same_logits(model: PixelModule, pixels: Tensor, method: CaptumMethod) -> None:
    """A given attribution must be on a model that reads pixels as the classifier does."""
    if method.attribution is None:
        return
    with torch.no_grad():
        ours, theirs = model(pixels), method.attribution.forward_func(pixels)
    same = isinstance(theirs, Tensor) and theirs.shape == ours.shape
    if not same or (theirs - ours).abs().max() > _SAME_LOGITS * (1 + ours.abs().max()):
        raise ChoiceError(
            f"{method.name} is on a model that gives other logits for these pixels than "
            f"{model.classifier.name}: make it on chiaroscuro.gradients.PixelModule(classifier)"
        )


class _Trace(TorchFunctionMode):
    """Inside, the modules that run are listed, and functions called outside of modules' leaves.

    Its hooks stay on the network: `attributes_as_found` takes them off.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {part: name or "the network itself" for name, part in module.named_modules()}
        self.called: list[nn.Module] = []
        self.outside: list[tuple[nn.Module, str]] = []
        self._open: list[nn.Module] = []
        for part in self.names:
            part.register_forward_pre_hook(self._enter_module)
            part.register_forward_hook(self._leave_module, always_call=True)

    def _enter_module(self, module: nn.Module, _: object) -> None:
        self.called.append(module)
        self._open.append(module)

    def _leave_module(self, *_: object) -> None:
        self._open.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if self._open and name not in _ONLY_SHAPE and not _is_leaf(self._open[-1]):
            self.outside.append((self._open[-1], name.strip("_")))
        return func(*args, **(kwargs or {}))

    def title(self, module: nn.Module) -> str:
        """A module's place in the network and its type."""
        return f"{self.names[module]} ({type(module).__name__})"

    def blamed(self, reason: str) -> str:
        """The module that an error's text shows, or whose type, or else the last one that ran."""
        shown = [p for p in self.names if str(type(p)) in reason or f"Module {p!r} " in reason]
        parts = [max(shown, key=self.called.count)] if shown else self.called[-1:]
        return "".join(f" at {self.title(part)}" for part in parts)

    def first(self, wrong: Callable[[nn.Module], bool], *functions: str) -> str:
        """The first leaf that is `wrong`, or the first of these functions outside of leaves."""
        titles = [self.title(part) for part in self.called if _is_leaf(part) and wrong(part)]
        titles += [
            f"{self.title(module)}, which calls {name} itself"
            for module, name in self.outside
            if name in functions or not functions
        ]
        return [*titles, "a module that it does not name"][0]


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _check_guided(_: PixelModule, trace: _Trace, *__: Tensor) -> str | None:
    """Every ReLU must be an `nn.ReLU`, and there must be one."""
    functional = any(name in _RELUS for _, name in trace.outside)
    if not functional and any(isinstance(part, nn.ReLU) for part in trace.called):
        return None

    def other(part: nn.Module) -> bool:
        return "activation" in type(part).__module__ and not isinstance(part, nn.ReLU)

    return (
        f"{trace.first(other, *_RELUS)}: Captum changes nn.ReLU modules alone, so this would be "
        "the plain gradient, wholly or in part"
    )


def _check_deeplift(
    model: PixelModule, trace: _Trace, pixels: Tensor, classes: Tensor, attributions: Tensor
) -> str | None:
    """The attributions must add up to the logit's difference from black."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    with torch.no_grad():
        here, black = (model(x).gather(1, classes[:, None])[:, 0] for x in (pixels, 0 * pixels))
    gap = (attributions.sum(dim=(1, 2, 3)) - (here - black)).abs()
    share = float((gap / torch.maximum(here.abs(), (here - black).abs())).max())
    if not share > _TOLERANCE:
        return None
    known = (*_LINEAR, *SUPPORTED_NON_LINEAR)
    return (
        f"{trace.first(lambda part: not isinstance(part, known))}: Captum has no rule for it, and "
        f"the attributions miss the logit's difference from black by {share:.0%}"
    )


def _check_lrp(
    model: PixelModule, trace: _Trace, pixels: Tensor, classes: Tensor, attributions: Tensor
) -> str | None:
    """With ReLUs alone, the epsilon rule is input x gradient (Ancona et al. 2018)."""
    if any(isinstance(part, nn.Tanh) for part in trace.called):
        return None
    inputs = pixels.clone().requires_grad_(True)
    logits = model(inputs).gather(1, classes[:, None]).sum()
    expected = torch.autograd.grad(logits, inputs)[0] * pixels
    gap = (attributions - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    if not float(gap.max()) > _TOLERANCE:
        return None
    return (
        f"{trace.first(lambda part: False)}: Captum's rules are for modules alone, and the "
        f"relevance is off by {float(gap.max()):.0%} of its size"
    )


_CHECKS: dict[str, Callable[..., str | None]] = {
    "guided-backprop": _check_guided,
    "deeplift": _check_deeplift,
    "lrp": _check_lrp,
}
"""Where a result is not what its method is defined to be, and why; None where it is."""
