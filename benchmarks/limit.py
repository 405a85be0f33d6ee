"""The share of the machine's limit: arithmetic and bytes of ours over the best rates measured here.

    python -m benchmarks.limit WORK      # what the work's passes need, as JSON
    python -m benchmarks.limit rates     # the machine's best rates, as JSON

One multiply-add counts as two operations, of convolutions and matrix products that are really done:
channels that carry nothing are left out. There are as many passes as classes, or as features that
are on, where these are fewer, and then a matrix product of the classes' weights with the gradients
of the features.

Bytes are a lower bound: every step that computes reads the gradients that it takes and writes those
that it gives; weights, masks, views and sums count as nothing. A copy reads and writes every byte.
"""

import argparse
import json
import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.clock import now
from benchmarks.gradients import in_process
from benchmarks.works import WORKS
from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward.fusion import identity
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.steps import (
    Add,
    Convolve,
    Cotangent,
    Cotangents,
    Linear,
    Matrix,
    Phased,
    Step,
    one,
)
from chiaroscuro.gradients.backward.tape import Tape

SHAPES = (
    (64, 64, 3, 56, 8),
    (128, 128, 3, 28, 16),
    (256, 256, 3, 14, 32),
    (512, 512, 3, 7, 32),
    (256, 1024, 1, 14, 32),
    (128, 512, 1, 28, 16),
)
"""Convolutions that suit the machine: channels in and out, kernel, side, images."""
_COPY_BYTES = 512 << 20
_VIEWS = ("view", "shared")
_SECONDS = 0.7


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
    work = WORKS[name]
    module, pixels = work.make()
    module.requires_grad_(False)
    counter = FlopCounterMode(display=False)
    leaf = pixels.clone().requires_grad_(True)
    with counter:
        logits = module(leaf)
    tape = Tape.of(logits, leaf)
    profile = device_profile()
    program = Program(tape, profile.chunk_bytes, work.classes, profile.budget_bytes // 2)
    features = program._tail[0].shape.numel() // len(pixels) if program._tail else 0
    passes = features or work.classes
    operations, moved = one_pass(program, logits.detach())
    product = 2 * work.classes * features * pixels.numel()
    return {
        "passes": passes,
        "operations": counter.get_total_flops() + operations * passes + product,
        "bytes": moved * passes,
    }


def one_pass(program: Program, logits: Tensor) -> tuple[int, int]:
    """Operations and least bytes of one class's way back from the logits (R, K)."""
    needed = [0, 0]

    def counted(step: Step) -> Step:
        def counting(cotangents: Cotangents) -> Cotangents:
            with FlopCounterMode(display=False) as counter:
                outputs = step(cotangents)
            if isinstance(step, Matrix | Convolve | Phased):
                needed[0] += _operations(step, cotangents)
            else:  # attention's products
                needed[0] += counter.get_total_flops()
            is_move = isinstance(step, Add) or (isinstance(step, Linear) and step.gives in _VIEWS)
            if not is_move:
                needed[1] += sum(f.tensor.nbytes for f in (*cotangents, *outputs) if f is not None)
            return outputs

        return counting

    steps = program._steps
    program._steps = [step if step is identity else counted(step) for step in steps]
    first = torch.eye(logits.shape[1], dtype=logits.dtype)[:1, None]
    cotangent = Cotangent(first.repeat(1, len(logits), 1), False)
    with torch.no_grad():
        for segment in (*program._head, *program._tail):
            cotangent = program._pass(segment, cotangent)
    program._steps = steps
    return needed[0], needed[1]


def _operations(step: Matrix | Convolve | Phased, cotangents: Cotangents) -> int:
    """Two for each multiply-add of a product, whatever kernel does it."""
    incoming = one(cotangents).tensor
    if isinstance(step, Matrix):
        return 2 * incoming.numel() * len(step.weight)
    convolutions = step.convolutions if isinstance(step, Phased) else (step.conv,)
    rows = incoming.shape[:2].numel()
    return sum(2 * rows * conv.weight.numel() * math.prod(conv.out) for conv in convolutions)


def best_rates() -> dict[str, Any]:
    """Operations per second of convolutions, forward and backward; bytes per second of a copy."""
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

    def forward() -> Tensor:
        return nn.functional.conv2d(x, weight, padding=kernel // 2)

    def backward() -> Tensor:
        pulled, _, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [1, 1], pad, [1, 1], False, [0, 0], 1, [True, False, False]
        )
        return torch.as_tensor(pulled)

    return [(way.__name__, operations / _least_seconds(way)) for way in (forward, backward)]


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
