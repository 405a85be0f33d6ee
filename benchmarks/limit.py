"""The share of the machine's limit: arithmetic and bytes of ours over the best rates found here.

    python -m benchmarks.limit WORK      # what the work's passes need, as JSON
    python -m benchmarks.limit rates     # the machine's best rates, as JSON

One multiply-add counts as two operations. A backward pass to the pixels needs as many as a forward
pass; there are as many passes as classes, or as features of the narrowest layer, where these are
fewer, and then a matrix product of the classes' weights with the gradients of the features.

Bytes are a lower bound: every convolution and matrix product reads the gradient at its output and
writes that at its input, every activation and pooling reads and writes one; weights, masks,
normalisations and sums count as nothing. A copy reads and writes every byte.
"""

import argparse
import json
import sys
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clock import now
from benchmarks.gradients import in_process
from benchmarks.works import WORKS

SHAPES = (
    (64, 64, 3, 56, 8),
    (128, 128, 3, 28, 16),
    (256, 256, 3, 14, 32),
    (512, 512, 3, 7, 32),
    (256, 1024, 1, 14, 32),
    (128, 512, 1, 28, 16),
)
"""Convolutions that suit the machine: channels in and out, kernel, side, images."""
WORTH = 0.9
"""Ours goes by way of the features where there are fewer than this share of the classes."""
_COPY_BYTES = 512 << 20
_SECONDS = 0.7
_COUNTED = (nn.Conv2d, nn.Linear)
_PASSING = (nn.ReLU, nn.ReLU6, nn.GELU, nn.MaxPool2d, nn.AdaptiveAvgPool2d)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=[*WORKS, "rates"])
    what = parser.parse_args().what
    print(json.dumps(best_rates() if what == "rates" else needs(what)))


def measured(what: str) -> dict[str, Any]:
    """`needs` of a work or the `rates`, in a process of its own."""
    return in_process([sys.executable, "-m", "benchmarks.limit", what])


def needs(name: str) -> dict[str, float]:
    """Operations and least bytes of all the work's gradients."""
    from torch.utils.flop_counter import FlopCounterMode

    work = WORKS[name]
    module, pixels = work.make()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(pixels)
    forward = counter.get_total_flops()
    by_features = work.features < WORTH * work.classes
    passes = work.features if by_features else work.classes
    product = 2 * work.classes * work.features * pixels.numel() if by_features else 0
    return {
        "passes": passes,
        "operations": forward * (1 + passes) + product,
        "bytes": pass_bytes(module, pixels) * passes,
    }


def pass_bytes(module: nn.Module, pixels: Tensor) -> int:
    """The least bytes that one backward pass moves."""
    values = 0

    def count(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal values
        values += given[0].numel() + made.numel()

    hooks = [
        part.register_forward_hook(count)
        for part in module.modules()
        if isinstance(part, (*_COUNTED, *_PASSING))
    ]
    with torch.no_grad():
        module(pixels)
    for hook in hooks:
        hook.remove()
    return values * pixels.element_size()


def best_rates() -> dict[str, Any]:
    """Operations per second of good convolutions there and back, and bytes per second of a copy."""
    from chiaroscuro.allocator import tune_allocator

    tune_allocator()
    rates = {f"{way} {shape}": rate for shape in SHAPES for way, rate in _convolution(*shape)}
    best = max(rates, key=rates.__getitem__)
    source = torch.rand(_COPY_BYTES // 4)
    target = torch.empty_like(source)
    copied = 2 * _COPY_BYTES / _least_seconds(lambda: target.copy_(source))
    return {"convolution": rates[best], "shape": best, "rates": rates, "copy": copied}


def _convolution(
    channels: int, out: int, kernel: int, side: int, images: int
) -> list[tuple[str, float]]:
    layout = torch.channels_last
    x = torch.rand(images, channels, side, side).contiguous(memory_format=layout)
    weight = torch.rand(out, channels, kernel, kernel).contiguous(memory_format=layout)
    pad = [kernel // 2] * 2
    gradient = torch.rand(images, out, side, side).contiguous(memory_format=layout)
    operations = 2 * images * out * channels * kernel**2 * side**2

    def there() -> Tensor:
        return nn.functional.conv2d(x, weight, padding=kernel // 2)

    def back() -> Tensor:
        return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
            gradient, x, weight, None, [1, 1], pad, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]

    return [(way.__name__, operations / _least_seconds(way)) for way in (there, back)]


def _least_seconds(call: Any) -> float:
    """The shortest of as many calls as fit in a little time."""
    call()
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 5:
        start = now()
        call()
        times.append(now() - start)
    return min(times)


if __name__ == "__main__":
    main()
