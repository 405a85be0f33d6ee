"""How far rounding moves the maps, and products in bfloat16: docs/results/precision.md.

    python -m benchmarks.precision [--work NAME ...] [--device cpu] [--write]

The first table compares float32 with float64, and with float32 by other threads, batches and
memory, in the logits and in the entries that maps mark; the second one products in bfloat16 with
float32, on six networks. `--write` puts them on the page; a table that `--only` leaves out stays as
it is there. Active and inactive entries (a channel of a pixel each) are those of the target above
or below all rivals. Seconds are of one call after a first one, in this process: on a CPU processor
time of one thread, which does not depend on who else uses the machine.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.clock import now
from benchmarks.machine import describe
from benchmarks.works import cnn, convnext_tiny, lite0, resnet, swin_tiny, vit_b16
from chiaroscuro import Classifier, Method, class_gradients, map_similarity, saliency_maps
from chiaroscuro.choices import EXPLAIN_MAPS
from chiaroscuro.gradients import ClassGradients

PAGE = Path(__file__).parent.parent / "docs" / "results" / "precision.md"
FORMATS = ("float32", "bfloat16")
ROUNDING, BFLOAT16 = "What moves the last bits", "Products in bfloat16"
HEAD = (
    "# Rounding\n\n"
    "This page shows how many entries of a map change with the last bits of a number: "
    "by threads, batches, memory and number formats, and by products in bfloat16."
)


WORKS: dict[str, tuple[str, Callable[[], tuple[nn.Module, Tensor]], int]] = {
    "lite0": ("EfficientNet-Lite0, trained, a photo of 224 px", lite0, 1000),
    "cnn": ("basic CNN, trained, 16 random images of 32 px", partial(cnn, 16), 10),
    "resnet": (
        "ResNet-18, random weights, 224 px",
        partial(resnet, "resnet18", 1000, 1, 224),
        1000,
    ),
    "convnext": ("ConvNeXt-Tiny, random weights, 224 px", convnext_tiny, 50),
    "vit": ("ViT-B/16, random weights, 224 px", vit_b16, 50),
    "swin": ("Swin-T, random weights, 224 px", swin_tiny, 50),
}
"""A title, what makes module and pixels, and how many classes compete."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--only", choices=("rounding", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    parts = PAGE.read_text().split("\n## ")[1:]
    tables = {part.partition("\n")[0]: f"## {part.rstrip()}" for part in parts}
    if arguments.only != "bfloat16":
        found = [row for name in ROUNDED for row in rounding(*ROUNDED[name])]
        tables[ROUNDING] = "\n".join(_rounding_lines(found))
    if arguments.only != "rounding":
        rows = [measure(*WORKS[name], arguments.device) for name in arguments.work]
        tables[BFLOAT16] = "\n".join(_bfloat16_lines(rows))
    text = "\n\n".join([HEAD, *(tables[title] for title in (ROUNDING, BFLOAT16))]) + "\n"
    print(text)
    if arguments.write:
        PAGE.write_text(text)


def measure(
    title: str, make: Callable[[], tuple[nn.Module, Tensor]], classes: int, device: str = "cpu"
) -> tuple[str, ...]:
    """A row of the table."""
    torch.set_num_threads(1)
    module, pixels = make()
    pixels = pixels.to(device)
    classifier, rivals = Classifier(module.to(device)), list(range(classes))
    with torch.no_grad():
        target = classifier(pixels)[:, :classes].argmax(dim=1)
    seconds, found = [], []
    for precision in FORMATS:
        method = Method("gradient", precision=precision)
        class_gradients(classifier, pixels[:1], target[:1], [1, 2], method)  # kernels chosen
        clock = time.process_time if device == "cpu" else partial(now, device)
        start = clock()
        found.append(class_gradients(classifier, pixels, target, rivals, method))
        seconds.append(clock() - start)
    coarse = found[1]
    maps = [saliency_maps(each, EXPLAIN_MAPS) for each in found]
    shares = (_differing(*(mask(each) for each in found)) for mask in MASKS.values())
    ranks = (
        float(map_similarity(maps[0][name], maps[1][name], pixels).correlation.mean())
        for name in EXPLAIN_MAPS
    )
    return (
        f"{title}, {classes} classes",
        f"{seconds[0]:.2f} s", f"{seconds[1]:.2f} s", f"{seconds[0] / seconds[1]:.2f}x",
        f"{coarse.choices.settings['rounding']:.2%}",
        *(f"{share:.2%}" for share in shares),
        *(f"{rank:.4f}" for rank in ranks),
    )  # fmt: skip


def _active(gradients: ClassGradients) -> Tensor:
    return gradients.target_gradient > gradients.rival_max


def _inactive(gradients: ClassGradients) -> Tensor:
    return gradients.target_gradient < gradients.rival_min


def _differing(exact: Tensor, coarse: Tensor) -> float:
    """Of the entries that are marked in either, the share that one of the two lacks."""
    return int((exact ^ coarse).sum()) / max(1, int((exact | coarse).sum()))


def photos() -> tuple[nn.Module, Tensor]:
    """EfficientNet-Lite0, and the packaged photo next to its mirror image."""
    module, pixels = lite0()
    return module, torch.cat([pixels, pixels.flip(-1)])


ROUNDED: dict[str, tuple[str, Callable[[], tuple[nn.Module, Tensor]], int]] = {
    "lite0": ("EfficientNet-Lite0, two photos of 224 px", photos, 1000),
    "cnn": ("basic CNN, trained, 256 random images of 32 px", partial(cnn, 256), 10),
    "resnet": (
        "ResNet-18, random weights, 64 of 32 px",
        partial(resnet, "resnet18", 10, 64, 32),
        10,
    ),
    "vit": ("ViT-B/16, random weights, 224 px", vit_b16, 20),
}
MASKS: dict[str, Callable[[ClassGradients], Tensor]] = {
    "positive": lambda found: found.target_gradient > 0,
    "negative": lambda found: found.target_gradient < 0,
    "active": _active,
    "inactive": _inactive,
}
"""Which entries a map marks."""


@dataclass(frozen=True, eq=False)
class Found:
    """Of some images: logits (B, K) and, by map, which entries (B, C, H, W) it marks."""

    logits: Tensor
    marked: dict[str, Tensor]


def rounding(
    title: str, make: Callable[[], tuple[nn.Module, Tensor]], classes: int
) -> Iterator[tuple[str, ...]]:
    """Rows: what differs from what, how far, and the share of entries that only one marks."""
    module, pixels = make()
    exact, rivals = copy.deepcopy(module).double(), list(range(classes))
    with torch.no_grad():
        target = module(pixels)[:, :classes].argmax(dim=1)

    def found(
        threads: int = 1,
        size: int = len(pixels),
        budget: int | None = None,
        network: nn.Module = module,
    ) -> Found:
        torch.set_num_threads(threads)
        classifier, images = Classifier(network), pixels.to(next(network.parameters()).dtype)
        each = [
            class_gradients(
                classifier,
                images[n : n + size],
                target[n : n + size],
                rivals,
                memory_budget=budget,
            )
            for n in range(0, len(pixels), size)
        ]
        marked = {n: torch.cat([mask(one) for one in each]) for n, mask in MASKS.items()}
        return Found(torch.cat([one.logits for one in each])[:, :classes], marked)

    one, exactly = found(), found(network=exact)
    others = {
        "float32 against float64": exactly,
        "once more": found(),
        "two threads against one": found(threads=2),
        "100 MB of memory against 900": found(budget=100_000_000),
    }
    for size in (1, 3, 8, 32):
        if size < len(pixels):
            others[f"batches of {size} against {len(pixels)}"] = found(size=size)
    for words, other in others.items():
        far = float((other.logits.double() - one.logits.double()).abs().max())
        shares = (_differing(other.marked[n], one.marked[n]) for n in MASKS)
        yield (
            f"{title}, {classes} classes",
            words,
            f"{far:.1e}" if far else "0",
            *(f"{share:.4%}" for share in shares),
        )


def _rounding_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    machine = describe()
    yield f"## {ROUNDING}"
    yield ""
    most, far = dict[bool, float](), dict[bool, float]()
    for _, words, logits, *shares in rows:
        formats = "float64" in words
        most[formats] = max(most.get(formats, 0.0), *(float(each.rstrip("%")) for each in shares))
        far[formats] = max(far.get(formats, 0.0), float(logits))
    yield (
        f"Between float32 and float64 at most {most[True]:.2g} % of a map's entries differ, and "
        f"logits by {far[True]:.0e}; by threads, memory and batches at most {most[False]:.2g} %, "
        f"and {far[False]:.0e}. "
        "A map marks an entry (a channel of a pixel) by a comparison, so where two numbers are "
        "nearly equal rounding decides. The table has the share of the entries that are marked by "
        "either side and not by both, and the largest difference of a logit. The same call on the "
        "same machine gives the same bits (*once more*). Rows of a run are the same bytes for any "
        "number of workers, any engine and any shards, since batch, threads and sizes of work are "
        "fixed when the run begins and kept by `--resume`. Another `--batch` may round otherwise: "
        "PyTorch chooses its kernels by the number of images, and a ReLU whose input is within "
        "rounding of zero may then switch, here none that changes a map. On a GPU "
        "`--deterministic` allows only kernels that give the same bits each time."
    )
    yield ""
    yield (
        f"`python -m benchmarks.precision --only rounding --write` on "
        f"{machine['gpu'] or machine['processor']}, PyTorch {machine['versions']['torch']}; "
        "weights and images that are random have seed 0."
    )
    yield from ("", f"| network | difference | logits | {' | '.join(MASKS)} |")
    yield f"|---|---|{'---:|' * 5}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _bfloat16_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    machine = describe()
    yield from (f"## {BFLOAT16}", "")
    yield (
        'With `precision="bfloat16"` (`--precision bfloat16`) the products of the backward pass '
        "take factors in bfloat16 and add in float32. The forward pass, the head, everything "
        "between products and the product next to the pixels stay in float32. It is never the "
        "default. Every result says how far the gradient of the highest logit is off."
    )
    yield ""
    yield (
        "`python -m benchmarks.precision --only bfloat16 --write` on "
        f"{machine['gpu'] or machine['processor']} (one thread), "
        f"PyTorch {machine['versions']['torch']}. *Error* is the "
        "root mean square of the gradient's error over that of the gradient. *Differing* is the "
        "share of the entries that either map marks and the other does not. The other columns "
        "are rank correlations (Spearman) of each map with that of float32. Weights and images "
        "that are random have seed 0. Seconds are processor time of one call."
    )
    heads = ("network", *FORMATS, "faster", "error", *(f"{name} differing" for name in MASKS))
    yield from ("", f"| {' | '.join((*heads, *EXPLAIN_MAPS))} |")
    yield f"|---|{'---:|' * (len(heads) - 1 + len(EXPLAIN_MAPS))}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    main()
