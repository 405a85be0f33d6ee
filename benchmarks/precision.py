"""How far rounding moves the maps, and products in bfloat16: docs/results/precision.md.

    python -m benchmarks.precision [--work NAME ...] [--device cpu] [--write]

The first table compares float32 with float64, and with float32 by other threads, batches and
memory; the second one products in bfloat16 with float32, on six networks. `--write` puts them on
the page; a table that `--only` leaves out stays as it is there. Active and inactive entries (a
channel of a pixel each) are those of the target above or below all rivals. Seconds are of one call
after a first one, in this process: on a CPU processor time of one thread, which does not depend on
who else uses the machine.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
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
    shares = (_differing(*(mask(each) for each in found)) for mask in (_active, _inactive))
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
    "cnn": ("basic CNN, trained, 16 random images of 32 px", partial(cnn, 16), 10),
    "resnet": (
        "ResNet-18, random weights, 16 of 32 px",
        partial(resnet, "resnet18", 10, 16, 32),
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


def rounding(
    title: str, make: Callable[[], tuple[nn.Module, Tensor]], classes: int
) -> Iterator[tuple[str, ...]]:
    """Rows: what differs from what, and the share of marked entries that only one of them has."""
    module, pixels = make()
    exact, rivals = copy.deepcopy(module).double(), list(range(classes))
    with torch.no_grad():
        target = module(pixels)[:, :classes].argmax(dim=1)

    def found(
        network: nn.Module, images: Tensor, threads: int = 1, budget: int | None = None
    ) -> ClassGradients:
        torch.set_num_threads(threads)
        several = target if len(images) == len(target) else target[:1]
        classifier = Classifier(network)
        return class_gradients(classifier, images, several, rivals, memory_budget=budget)

    one, double = found(module, pixels), found(exact, pixels.double())
    others = {
        "float32 against float64": (double, one),
        "once more": (one, found(module, pixels)),
        "two threads against one": (one, found(module, pixels, threads=2)),
        "100 MB of memory against 900": (one, found(module, pixels, budget=100_000_000)),
    }
    if len(pixels) > 1:
        alone = found(module, pixels[:1])
        others["the first image alone, or in the batch"] = (alone, one)
    for words, (first, second) in others.items():
        shares = []
        for mask in MASKS.values():
            marked = [mask(each)[: len(first.target_gradient)] for each in (first, second)]
            shares.append(f"{_differing(*marked):.4%}")
        yield (f"{title}, {classes} classes", words, *shares)


def _rounding_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    machine = describe()
    yield f"## {ROUNDING}"
    yield ""
    most = dict[bool, float]()
    for _, words, *shares in rows:
        formats = "float64" in words
        most[formats] = max(most.get(formats, 0.0), *(float(each.rstrip("%")) for each in shares))
    yield (
        f"Between float32 and float64 at most {most[True]:.2g} % of a map's entries differ; by "
        f"threads, memory and batches at most {most[False]:.2g} %. "
        "A map marks an entry (a channel of a pixel) by a comparison, so where two numbers are "
        "nearly equal rounding decides. The table has the share of the entries that are marked by "
        "either side and not by both. The same call on the same machine gives the same bits "
        "(*once more*); rows of a run are the same bytes for any number of workers, since batch, "
        "threads and sizes of work are fixed when the run begins and kept by `--resume`. On a GPU "
        "`--deterministic` allows only kernels that give the same bits each time."
    )
    yield ""
    yield (
        f"`python -m benchmarks.precision --only rounding --write` on "
        f"{machine['gpu'] or machine['processor']}, PyTorch {machine['versions']['torch']}; "
        "weights and images that are random have seed 0."
    )
    yield from ("", f"| network | difference | {' | '.join(MASKS)} |", f"|---|---|{'---:|' * 4}")
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
        "share of the active (inactive) entries of either that the other lacks. The other columns "
        "are rank correlations (Spearman) of each map with that of float32. Weights and images "
        "that are random have seed 0. Seconds are processor time of one call."
    )
    heads = ("network", *FORMATS, "faster", "error", "active differing", "inactive differing")
    yield from ("", f"| {' | '.join((*heads, *EXPLAIN_MAPS))} |")
    yield f"|---|{'---:|' * (len(heads) - 1 + len(EXPLAIN_MAPS))}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    main()
