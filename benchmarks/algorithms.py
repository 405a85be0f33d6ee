"""The ways to get the paper's maps that are timed against each other.

Every function takes a module in eval mode, pixels (B, C, H, W), the classes that compete and each
image's target (B,), and returns the five maps (B, H, W) by name. Layout and allocator are the
libraries' own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Maps = dict[str, Tensor]
Run = Callable[[nn.Module, Tensor, Sequence[int], Tensor], Maps]


def ours(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """All maps in one call of this project's engine."""
    from chiaroscuro import Classifier, class_gradients, saliency_maps

    rivals: str | list[int] = list(classes)
    return dict(saliency_maps(class_gradients(Classifier(module), pixels, target, rivals)))


def ours_tuned(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """The same, in a process whose allocator keeps its memory, as the command line's does."""
    from chiaroscuro.allocator import tune_allocator

    tune_allocator()
    return ours(module, pixels, classes, target)


def published(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """The paper's procedure: each map on its own, a forward and a full backward per class."""
    own = _full_backward(module, pixels, target)
    maps = {"original": own.abs().amax(dim=1)}
    maps["positive"] = _full_backward(module, pixels, target).relu().amax(dim=1)
    maps["negative"] = (-_full_backward(module, pixels, target)).relu().amax(dim=1)
    for name in ("active", "inactive"):
        best: Tensor | None = None
        for k in classes:
            rival = torch.full_like(target, k)
            gradients = _full_backward(module, pixels, rival)
            # The target does not compete with itself.
            void = -torch.inf if name == "active" else torch.inf
            gradients = torch.where((rival == target).view(-1, 1, 1, 1), void, gradients)
            if best is None:
                best = gradients
            elif name == "active":
                best = torch.maximum(best, gradients)
            else:
                best = torch.minimum(best, gradients)
        assert best is not None
        mask = own > best if name == "active" else own < best
        maps[name] = torch.where(mask, own.abs(), 0.0).amax(dim=1)
    return maps


def _full_backward(module: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """One forward and one `.backward()`, parameter gradients included."""
    module.zero_grad(set_to_none=True)
    leaf = pixels.clone().requires_grad_(True)
    module(leaf).gather(1, classes[:, None]).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def captum(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """Captum's `Saliency`, one call per class, extremes kept along the way."""
    from captum.attr import Saliency

    saliency = Saliency(module)
    leaf = pixels.clone().requires_grad_(True)
    kept = _Kept(pixels, target)
    for k in classes:
        kept.add(saliency.attribute(leaf, target=k, abs=False), k)
    return kept.maps()


def loop(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """One forward, its graph retained, and a loop of input gradients over the classes."""
    _freeze(module)
    leaf = pixels.clone().requires_grad_(True)
    logits = module(leaf)
    kept = _Kept(pixels, target)
    for k in classes:
        kept.add(torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)[0], k)
    return kept.maps()


def jacrev(chunk: int) -> Run:
    """`torch.func.jacrev` with that many classes at a time: the whole Jacobian, then its extremes.

    Rows of a batch do not influence each other, so the sums over images have the gradients of
    every image, and one Jacobian (K, B, C, H, W) serves all of them.
    """

    def run(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
        _freeze(module)
        at = torch.tensor(list(classes), device=pixels.device)
        jacobian = torch.func.jacrev(lambda x: module(x).sum(dim=0)[at], chunk_size=chunk)(pixels)
        place, image = (at[:, None] == target).nonzero(as_tuple=True)
        own = jacobian[place[image.argsort()], torch.arange(len(target), device=pixels.device)]
        jacobian[place, image] = -torch.inf
        high = jacobian.amax(dim=0)
        jacobian[place, image] = torch.inf
        return _five_maps(own, high, jacobian.amin(dim=0))

    return run


def _freeze(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(False)


class _Kept:
    """The own gradient and the rivals' extremes, class by class."""

    def __init__(self, pixels: Tensor, target: Tensor) -> None:
        self.target = target
        self.own = torch.zeros_like(pixels)
        self.high = torch.full_like(pixels, -torch.inf)
        self.low = torch.full_like(pixels, torch.inf)

    def add(self, gradients: Tensor, k: int) -> None:
        """Count the gradients of class k in."""
        own = self.target == k
        if not own.any():
            torch.maximum(self.high, gradients, out=self.high)
            torch.minimum(self.low, gradients, out=self.low)
            return
        rival = ~own
        self.own[own] = gradients[own]
        self.high[rival] = torch.maximum(self.high[rival], gradients[rival])
        self.low[rival] = torch.minimum(self.low[rival], gradients[rival])

    def maps(self) -> Maps:
        return _five_maps(self.own, self.high, self.low)


def _five_maps(own: Tensor, high: Tensor, low: Tensor) -> Maps:
    return {
        "original": own.abs().amax(dim=1),
        "positive": own.relu().amax(dim=1),
        "negative": (-own).relu().amax(dim=1),
        "active": torch.where(own > high, own.abs(), 0.0).amax(dim=1),
        "inactive": torch.where(own < low, own.abs(), 0.0).amax(dim=1),
    }


@dataclass(frozen=True)
class Algorithm:
    """How an algorithm is run, and what it does for n classes.

    `passes(n)` backward passes; `one_forward`: a single forward pass serves all of them;
    `all_classes`: not linear in the classes, so never run on some of them and scaled.
    """

    run: Run
    passes: Callable[[int], int] = lambda n: n
    one_forward: bool = True
    all_classes: bool = False


def algorithm(name: str, chunk: int | None = None) -> Algorithm:
    """The algorithm of that name; `chunk` is jacrev's."""
    if name == "jacrev":
        if chunk is None:
            raise ValueError("jacrev needs a chunk")
        return Algorithm(jacrev(chunk))
    return ALGORITHMS[name]


ALGORITHMS = {
    "ours, allocator tuned": Algorithm(ours_tuned, all_classes=True),
    "ours": Algorithm(ours, all_classes=True),
    "published": Algorithm(published, lambda n: 3 + 2 * n, one_forward=False),
    "captum": Algorithm(captum, one_forward=False),
    "loop": Algorithm(loop),
}
"""All that need no chunk; `jacrev` does."""
OURS = ("ours, allocator tuned", "ours")
RIVALS = ("published", "captum", "jacrev", "loop")
