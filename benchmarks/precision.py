"""How far products in bfloat16 move the maps, on six networks: docs/results/precision.md.

    python -m benchmarks.precision [--work NAME ...] [--device cpu] [--write]

Active and inactive entries (a channel of a pixel each) are those of the target above or below all
rivals. Seconds are of one call after a first one, in this process: on a CPU processor time of one
thread, which does not depend on who else uses the machine.
"""

import argparse
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.work:
        rows.append(measure(*WORKS[name], arguments.device))
        print(rows[-1], flush=True)
    text = page(rows)
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


def page(rows: Sequence[Sequence[str]]) -> str:
    """The page of the results."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    machine = describe()
    yield from ("# Products in bfloat16", "")
    yield (
        'With `precision="bfloat16"` (`--precision bfloat16`) the products of the backward pass '
        "take factors in bfloat16 and add in float32. The forward pass, the head, everything "
        "between products and the product next to the pixels stay in float32. It is never the "
        "default. Every result says how far the gradient of the highest logit is off."
    )
    yield ""
    yield (
        f"`python -m benchmarks.precision --write` on {machine['gpu'] or machine['processor']} "
        f"(one thread), PyTorch {machine['versions']['torch']}. *Error* is the "
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
