"""The ways to get the article's maps that are timed against each other.

Every function takes a module in eval mode and pixels, and returns the five maps (B, H, W) by name.
`classes` limits the classes that are run (the target first), for what is linear in classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Maps = dict[str, Tensor]


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
    """The article's procedure: each map on its own, a forward and a full backward per class."""
    own = _full_backward(module, pixels, target)
    maps = {"original": own.abs().amax(dim=1)}
    maps["positive"] = _full_backward(module, pixels, target).relu().amax(dim=1)
    maps["negative"] = (-_full_backward(module, pixels, target)).relu().amax(dim=1)
    for name in ("active", "inactive"):
        best: Tensor | None = None
        for k in classes:
            rival = torch.full_like(target, k)
            found = _full_backward(module, pixels, rival)
            # The target does not compete with itself.
            void = -torch.inf if name == "active" else torch.inf
            found = torch.where((rival == target).view(-1, 1, 1, 1), void, found)
            if best is None:
                best = found
            elif name == "active":
                best = torch.maximum(best, found)
            else:
                best = torch.minimum(best, found)
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


def loop(module: nn.Module, pixels: Tensor, classes: Sequence[int], target: Tensor) -> Maps:
    """One forward, its graph retained, and a loop of input gradients over the classes."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    leaf = pixels.clone().requires_grad_(True)
    logits = module(leaf)

    def gradient(chosen: Tensor) -> Tensor:
        score = logits.gather(1, chosen[:, None]).sum()
        return torch.autograd.grad(score, leaf, retain_graph=True)[0]

    own = gradient(target)
    high, low = torch.full_like(own, -torch.inf), torch.full_like(own, torch.inf)
    for k in classes:
        rival = torch.full_like(target, k)
        if bool((rival == target).all()):
            continue
        found = gradient(rival)
        same = (rival == target).view(-1, 1, 1, 1)
        high = torch.maximum(high, torch.where(same, -torch.inf, found))
        low = torch.minimum(low, torch.where(same, torch.inf, found))
    return {
        "original": own.abs().amax(dim=1),
        "positive": own.relu().amax(dim=1),
        "negative": (-own).relu().amax(dim=1),
        "active": torch.where(own > high, own.abs(), 0.0).amax(dim=1),
        "inactive": torch.where(own < low, own.abs(), 0.0).amax(dim=1),
    }


Algorithm = Callable[[nn.Module, Tensor, Sequence[int], Tensor], Maps]
ALGORITHMS: dict[str, Algorithm] = {
    "ours": ours,
    "ours, allocator tuned": ours_tuned,
    "published": published,
    "loop": loop,
}
