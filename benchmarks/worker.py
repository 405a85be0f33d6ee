"""One algorithm on one piece of work, alone in this process: prints seconds and memory as JSON."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.algorithms import ALGORITHMS


@dataclass(frozen=True)
class Work:
    """What is explained: a network in eval mode, pixels, and how many classes there are."""

    title: str
    make: Callable[[], tuple[nn.Module, Tensor]]
    classes: int


def _resnet18() -> tuple[nn.Module, Tensor]:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    module = resnet18(num_classes=10).eval()
    with torch.no_grad():  # statistics of their own, as a trained network has
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2.0)
    return module, torch.rand(64, 3, 32, 32)


def _lite0() -> tuple[nn.Module, Tensor]:
    from chiaroscuro import load_classifier
    from chiaroscuro.images import frame, open_photo, packaged_photo

    classifier = load_classifier("efficientnet-lite0")
    pixels, _ = frame(open_photo(packaged_photo("cat")), classifier.framing)
    centre, width = 127 / 255, 128 / 255
    # Normalisation as a layer in front, so that every algorithm asks the same bare module.
    module = nn.Sequential(_Affine(centre, width), classifier.module)
    return module.eval(), torch.from_numpy(pixels)[None]


class _Affine(nn.Module):
    def __init__(self, centre: float, width: float) -> None:
        super().__init__()
        self.centre, self.width = centre, width

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) / self.width


WORKS = {
    "resnet18-32px-k10": Work("ResNet-18, K = 10, 64 images of 32 px", _resnet18, 10),
    "lite0-224px-k1000": Work("EfficientNet-Lite0, K = 1000, one photo of 224 px", _lite0, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("algorithm", choices=[*ALGORITHMS, "one class"])
    parser.add_argument("--classes", type=int, help="run this many seeded classes, not all")
    parser.add_argument("--result", type=Path, help="write the maps there")
    arguments = parser.parse_args()
    work = WORKS[arguments.work]
    module, pixels = work.make()
    with torch.no_grad():
        target = module(pixels).argmax(dim=1)
    count = arguments.classes or work.classes
    chosen = torch.randperm(work.classes, generator=torch.Generator().manual_seed(0))[:count]
    classes = sorted(chosen.tolist())
    if arguments.algorithm == "one class":
        print(json.dumps({"seconds": _one_class(module, pixels)}))
        return
    run = ALGORITHMS[arguments.algorithm]
    import_module("chiaroscuro.maps")  # so that its memory counts for nobody
    with peak_above() as found:
        run(module, pixels[:1], classes[:2], target[:1])  # kernels chosen
        start = time.perf_counter()
        maps = run(module, pixels, classes, target)
        seconds = time.perf_counter() - start
    if arguments.result:
        arrays: dict[str, Any] = {name: values.numpy() for name, values in maps.items()}
        np.savez(arguments.result, **arrays)
    print(json.dumps({"seconds": seconds, "peak_bytes": found["peak"], "classes": len(classes)}))


def _one_class(module: nn.Module, pixels: Tensor) -> float:
    """Median seconds of one forward plus full backward, nothing else."""
    times = []
    for _ in range(12):
        module.zero_grad(set_to_none=True)
        leaf = pixels.clone().requires_grad_(True)
        start = time.perf_counter()
        module(leaf)[:, 0].sum().backward()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))


@contextmanager
def peak_above() -> Iterator[dict[str, float]]:
    """The seconds of the block, and the process's peak bytes in it above what it held before."""
    found: dict[str, float] = {}
    before = _memory("VmRSS", reset=True)
    start = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - start
    found["peak"] = _memory("VmHWM") - before


def _memory(field: str, *, reset: bool = False) -> int:
    """Bytes of this process's `VmRSS` (now) or `VmHWM` (peak since the last reset)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    main()
