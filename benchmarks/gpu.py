"""Everything that only a GPU can show, in one run that aims at eight minutes: docs/results/gpu.md.

    python -m benchmarks.gpu                            # on a CUDA GPU
    python -m benchmarks.gpu --device cpu --small       # the same with small networks, as a test

Twelve networks in float64 against plain autograd; the nodes that attention has on GPUs; all five
maps of four networks with 1000 classes and of 64 small images by ours and by every rival, with the
peak memory. Algorithms run one after the other in this process, each on a network of its own.
"""

import argparse
import copy
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.algorithms import Maps, algorithm
from benchmarks.clock import now, peak_above
from benchmarks.gpu_page import page
from benchmarks.machine import describe
from benchmarks.networks import build, randomized
from benchmarks.works import WORKS, Work, chosen_classes, resnet
from benchmarks.zoo import compared
from chiaroscuro import Classifier, class_gradients
from chiaroscuro.device import device_profile, rounded_to_tf32
from chiaroscuro.gradients.backward.program import AutogradFallback, BackwardPlan, Program
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Opaque
from chiaroscuro.gradients.backward.tape import Tape

OUT = Path(__file__).parent / "out" / "gpu.json"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "gpu.md"
ALGORITHMS = ("ours", "published", "captum", "jacrev", "loop")
PATIENCE = 2.0
"""An algorithm is repeated as long as that takes no more seconds."""
EQUAL = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "alexnet", "convnext_tiny",
    "densenet121", "efficientnet_b0", "regnet_y_400mf", "resnet50", "swin_t", "swin_v2_t",
    "vit_b_16",
)  # fmt: skip
"""Networks of torchvision that are compared in float64, the quick ones first."""
GPU_KERNELS = {
    "flash": (SDPBackend.FLASH_ATTENTION, (torch.bfloat16, torch.float16)),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, (torch.float32, torch.float16)),
    "cuDNN": (SDPBackend.CUDNN_ATTENTION, (torch.bfloat16, torch.float16)),
}
CPU_KERNELS = {"flash": (SDPBackend.FLASH_ATTENTION, (torch.float32,))}


@dataclass(frozen=True)
class Scope:
    """How much is measured: `networks` of `EQUAL`, rivals' classes, jacrev's chunks."""

    networks: tuple[str, ...]
    repeats: int
    seeded: int
    chunks: tuple[int, ...]
    works: dict[str, Work]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small networks, few classes")
    parser.add_argument("--page", type=Path, help=f"where to write; on a GPU {PAGE.name}")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA GPU here; --device cpu --small tries the script out")
    report = measure(arguments.device, SMALL if arguments.small else FULL, print)
    text, place = page(report), arguments.page
    if arguments.device != "cpu":
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(report, indent=2) + "\n")
        place = place or PAGE
    print(text)
    if place is not None:
        place.write_text(text)
        print(f"written: {place}")


def measure(device: str, scope: Scope, log: Callable[[str], object]) -> dict[str, Any]:
    """Everything, as the page takes it."""
    start = time.perf_counter()
    place = torch.device(device)
    report: dict[str, Any] = {
        "machine": describe(),
        "device": device,
        "tf32": rounded_to_tf32(place),
        "profile": device_profile(place).describe(),
        "equal": [],
        "attention": [],
        "works": {},
    }
    for name in scope.networks:
        report["equal"].append((name, _equal(name, place)))
        log(f"{name}: {report['equal'][-1][1]:.0e}")
    for row in _attention(place):
        report["attention"].append(row)
        log(f"attention {row}")
    for name, work in scope.works.items():
        report["works"][name] = _timed(work, device, scope, log)
    report["minutes"] = (time.perf_counter() - start) / 60
    return report


def _equal(name: str, device: torch.device) -> float:
    """The largest difference to plain autograd over the largest gradient, in float64."""
    module, size = build(f"torchvision:{name}", 10)
    pixels, change = torch.rand(2, 2, 3, size, size, dtype=torch.float64).to(device)
    return compared(module.double().to(device), pixels, change - 0.5)[0]


def _attention(device: torch.device) -> Iterator[tuple[str, str, float, str]]:
    """Of each kernel: what `_both_ways` says, and the number format."""
    kernels = CPU_KERNELS if device.type == "cpu" else GPU_KERNELS
    for name, (kernel, formats) in kernels.items():
        for dtype in formats:
            torch.manual_seed(0)
            leaf = torch.randn(2, 4, 64, 32, device=device, dtype=dtype).requires_grad_(True)
            try:
                with sdpa_kernel(kernel):
                    output = F.scaled_dot_product_attention(leaf.sin(), leaf, leaf.cos())
            except RuntimeError as error:
                yield name, f"not here: {str(error).splitlines()[0]}", 0.0, str(dtype)
                continue
            yield (*_both_ways(leaf, output), str(dtype).removeprefix("torch."))


def _both_ways(leaf: Tensor, output: Tensor) -> tuple[str, str, float]:
    """Attention's node, by which way it goes back, and how far that is from PyTorch's engine."""
    weight = torch.randn(5, output[0].numel()).to(output)
    logits = output.flatten(1) @ weight.T
    tape = Tape.of(logits, leaf)
    (entry,) = [each for each in tape.entries if each.name.startswith("ScaledDot")]
    way = "class by class" if isinstance(step_of(entry), Opaque) else "a rule"
    rows = torch.eye(5)[:, None].expand(-1, len(leaf), -1).to(output)

    def gradients(plan: BackwardPlan) -> Tensor:
        return torch.cat([part.gradients for part in plan.run(5, lambda a, b: rows[a:b])]).float()

    with torch.no_grad():
        wanted = gradients(AutogradFallback(logits, leaf))
        made = gradients(Program(tape, 1 << 30, 0, 0))
    return entry.name, way, float((made - wanted).abs().max() / wanted.abs().max())


def _timed(work: Work, device: str, scope: Scope, log: Callable[[str], object]) -> dict[str, Any]:
    """Seconds and peak bytes of every algorithm, as for all classes; how far maps differ."""
    module, pixels = work.make()
    module, pixels = module.to(device), pixels.to(device)
    with torch.no_grad():
        target = module(pixels).argmax(dim=1)
    every = chosen_classes(work, work.classes, target.cpu())
    some = chosen_classes(work, min(scope.seeded, work.classes), target.cpu())
    few = chosen_classes(work, 2, target[:1].cpu())

    def seconds_of(run: Callable[[], object]) -> float:
        times: list[float] = []
        while len(times) < scope.repeats and sum(times) < PATIENCE:
            start = now(device)
            run()
            times.append(now(device) - start)
        return statistics.median(times)

    forward = seconds_of(lambda: module(pixels.clone().requires_grad_(True)))
    measured: dict[str, Any] = {"title": work.title, "goals": work.goals, "classes": len(some)}
    maps: dict[str, Maps] = {}
    for name in ALGORITHMS:
        classes = every if name == "ours" else some
        chunks = [n for n in scope.chunks if n <= len(some)] if name == "jacrev" else [None]
        best: dict[str, Any] = {}
        for chunk in chunks:
            how, copied = algorithm(name, chunk), copy.deepcopy(module)
            gc.collect()
            how.run(copied, pixels[:1], few, target[:1])  # kernels chosen
            try:
                with peak_above(device) as usage:
                    seconds = seconds_of(partial(how.run, copied, pixels, classes, target))
                maps[name] = how.run(copied, pixels, some, target)
            except torch.OutOfMemoryError:
                continue
            once = forward if how.one_forward else 0.0
            share = how.passes(len(every)) / how.passes(len(classes))
            missing = (len(every) - len(classes)) * pixels.nbytes if name == "jacrev" else 0
            found = {"seconds": once + (seconds - once) * share, "chunk": chunk}
            if not best or found["seconds"] < best["seconds"]:
                best = found | {"peak_bytes": usage["peak"] + missing}
        measured[name] = best
        log(f"{work.title}, {name}: {best}")
    measured["differences"] = {
        name: _difference(maps["ours"], maps[name]) for name in ALGORITHMS[1:] if name in maps
    }
    measured["waits"] = [_waits(module, pixels, target, classes) for classes in (some, every)]
    return measured


def _difference(ours: Maps, theirs: Maps) -> float:
    """The root mean square of the difference over that of theirs: the largest of the maps."""

    def size(values: Tensor) -> float:
        return float(values.double().square().mean().sqrt())

    return max(size(ours[name] - theirs[name]) / size(theirs[name]) for name in ours)


def _waits(module: nn.Module, pixels: Tensor, target: Tensor, classes: list[int]) -> int | None:
    """How often the host waits for the GPU in one call; no more for more classes."""
    if pixels.device.type == "cpu":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            class_gradients(Classifier(module), pixels, target, classes)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def _as_on_cpus(name: str, **goals: float) -> Work:
    return replace(WORKS[name], goals=goals)


def _small_works() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.resnet import BasicBlock, ResNet
    from torchvision.models.swin_transformer import SwinTransformer
    from torchvision.models.vision_transformer import VisionTransformer

    yield "ViT", lambda: VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=40)
    swin = ([4, 4], 16, [2, 2], [2, 2], [4, 4])
    yield "Swin", lambda: SwinTransformer(*swin, num_classes=40)
    yield "ResNet", lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=40)
    blocks = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
    yield "ConvNeXt", lambda: ConvNeXt(blocks, num_classes=40)


def _little(name: str, make: Callable[[], nn.Module]) -> Work:
    def made() -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        return randomized(make(), 32), torch.rand(1, 3, 32, 32)

    return Work(f"a small {name}, K = 40", made, 40, {})


FULL = Scope(
    EQUAL,
    3,
    100,
    (10, 50, 100),
    {
        "vit": _as_on_cpus("vit-b16-224px-k1000", loop=20),
        "swin": _as_on_cpus("swin-224px-k1000"),
        "resnet": Work(
            "ResNet-50, K = 1000, one 224 px image",
            lambda: resnet("resnet50", 1000, 1, 224),
            1000,
            {"loop": 10},
        ),
        "convnext": _as_on_cpus("convnext-224px-k1000"),
        "cifar": _as_on_cpus("resnet18-32px-k10"),
    },
)
SMALL = Scope(
    EQUAL[:2],
    1,
    5,
    (5,),
    {name: _little(name, make) for name, make in _small_works()}
    | {"cifar": Work("ResNet-18, K = 5, 2 images", lambda: resnet("resnet18", 5, 2, 32), 5, {})},
)


if __name__ == "__main__":
    main()
