"""The figures of the page on the method: `python -m tools.method_figures`.

One photo of a cat at 32 x 32 pixels and the packaged `cifar10-cnn`; the last two figures take the
packaged EfficientNet-Lite0 and its 1,000 classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro import (
    Classifier,
    class_gradients,
    load_classifier,
    reduce_gradients,
    saliency_maps,
)
from chiaroscuro.edits import apply_edit, filled, matched_counts, pixel_order, pixel_rank
from chiaroscuro.images import frame, open_photo, packaged_photo
from chiaroscuro.render.pictures import BRIGHTER, DARKER, one_sided, two_sided
from chiaroscuro.render.sheets import EDGE, FAINT, INK

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ORANGE, BLUE = (tuple(c / 255 for c in color) for color in (BRIGHTER, DARKER))
GRAY = "#c9ccd2"
SHARES = (0.0, 0.01, 0.03, 0.1)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 999)


class Stack:
    """A reducer that keeps every class's gradient: for ten classes and one small image."""

    def start(self, images: Tensor, classes: int) -> None:
        """Room for all of them."""
        self.kept = images.new_zeros(len(images), classes, *images.shape[1:])

    def add(self, gradients: Tensor, classes: Any) -> None:
        """Some more classes."""
        self.kept[:, classes] = gradients.transpose(0, 1)

    def finish(self) -> Tensor:
        """Gradients (B, K, C, H, W)."""
        return self.kept


def pixels_of(classifier: Classifier, photo: str) -> Tensor:
    """A packaged photo as the network sees it, (1, C, H, W)."""
    framed, _ = frame(open_photo(packaged_photo(photo)), classifier.framing)
    return torch.from_numpy(framed)[None]


def draw_pixels(classifier: Classifier, pixels: Tensor, target: int) -> None:
    """Ten gradients at each of four pixels: what positive, active and their opposites mean."""
    every = reduce_gradients(classifier, pixels, Stack())[0].flatten(1)  # (K, C H W)
    own = every[target]
    rivals = np.delete(every.numpy(), target, axis=0)
    above, below = rivals.max(axis=0), rivals.min(axis=0)
    values = own.numpy()
    kinds = {
        "positive and active": (values > 0) & (values > above),
        "positive, not active": (values > 0) & (values < above),
        "negative and inactive": (values < 0) & (values < below),
        "negative, not inactive": (values < 0) & (values > below),
    }
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    for axes, (title, mask) in zip(figure.subplots(1, 4, sharey=True), kinds.items(), strict=True):
        # A clear example: of the pixels of this kind, one of the hundred strongest, well apart.
        strong = np.flatnonzero(mask)[np.argsort(-np.abs(values[mask]))[:100]]
        apart = np.minimum(np.abs(values - above), np.abs(values - below))[strong]
        place = strong[np.argmax(apart)]
        here = every[:, place].numpy()
        colors: list[Any] = [GRAY] * len(here)
        colors[target] = ORANGE if here[target] > 0 else BLUE
        axes.bar(range(len(here)), here, color=colors)
        axes.axhline(0, color=INK, linewidth=0.8)
        for limit in (above[place], below[place]):
            axes.axhline(limit, color=FAINT, linewidth=0.9, linestyle=":")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(here)))
        axes.set_xticklabels(classifier.labels, rotation=90, fontsize=7)
        _bare(axes)
    figure.axes[0].set_ylabel("gradient of the class's logit", fontsize=8)
    figure.savefig(IMAGES / "method-pixel.png", dpi=110)


def draw_planes(classifier: Classifier, pixels: Tensor, target: int) -> None:
    """Every value of the image in the plane of two gradients, or of two differences."""
    every = reduce_gradients(classifier, pixels, Stack())[0].flatten(1).numpy()
    logits = class_gradients(classifier, pixels).logits[0]
    order = [k for k in logits.argsort(descending=True).tolist() if k != target][:2]
    names = [classifier.label(k) for k in (target, *order)]
    own, first, second = every[[target, *order]]
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, own, first, own > first, own < first)
    end = 0.98 * np.quantile(np.abs([own, first]), 0.995)
    left.plot([-end, end], [-end, end], color=INK, linewidth=0.8)
    left.set_xlabel(f"gradient of {names[0]}")
    left.set_ylabel(f"gradient of {names[1]}")
    left.set_title("one rival: the diagonal divides all values", fontsize=9)
    x, y = own - first, own - second
    _scatter(right, x, y, (x > 0) & (y > 0), (x < 0) & (y < 0))
    right.axhline(0, color=INK, linewidth=0.8)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set_xlabel(f"gradient of {names[0]} minus {names[1]}")
    right.set_ylabel(f"gradient of {names[0]} minus {names[2]}")
    right.set_title("two rivals: both must lose, or both win", fontsize=9)
    figure.savefig(IMAGES / "method-rivals.png", dpi=110)


def _scatter(axes: Any, x: Any, y: Any, active: Any, inactive: Any) -> None:
    rest = ~(active | inactive)
    for mask, color, name in (
        (active, ORANGE, "active"), (inactive, BLUE, "inactive"), (rest, GRAY, "neither"),
    ):  # fmt: skip
        if mask.any():
            label = f"{name}: {100 * mask.mean():.0f} %"
            axes.scatter(x[mask], y[mask], s=3, color=color, label=label, linewidths=0)
    end = np.quantile(np.abs([x, y]), 0.995)
    axes.set_xlim(-end, end)
    axes.set_ylim(-end, end)
    axes.set_aspect("equal")
    axes.legend(fontsize=8, markerscale=3, loc="upper left", framealpha=1, edgecolor=EDGE)
    axes.tick_params(labelsize=7)


def draw_maps(classifier: Classifier, pixels: Tensor, target: int) -> None:
    """The photo and its maps, then the active map against more and more rivals."""
    gradients = class_gradients(classifier, pixels, target)
    maps = saliency_maps(gradients, ["original", "positive", "negative", "signed"])
    limit = float(maps["original"].quantile(0.99))
    cells: list[tuple[str, NDArray[Any]]] = [("photo, 32 x 32", _photo(pixels))]
    for name, helps in (("original", "either"), ("positive", "brighter"), ("negative", "darker")):
        cells.append((name, one_sided(maps[name][0].numpy(), limit, helps)))  # type: ignore[arg-type]
    cells.append(("signed, 9 rivals", two_sided(maps["signed"][0].numpy(), limit)))
    for rivals in ("top:1", "top:2", "top:4", "all"):
        found = saliency_maps(class_gradients(classifier, pixels, target, rivals), "active")
        count = {"all": 9}.get(rivals) or int(rivals[4:])
        share = 100 * float(found.support["active"].pixels[0])
        title = f"active, {count} rival{'s' * (count > 1)}: {share:.0f} %"
        cells.append((title, one_sided(found["active"][0].numpy(), limit, "brighter")))
    both = saliency_maps(gradients, "inactive")
    share = 100 * float(both.support["inactive"].pixels[0])
    title = f"inactive, 9 rivals: {share:.0f} %"
    cells.append((title, one_sided(both["inactive"][0].numpy(), limit, "darker")))
    _grid(cells, 5, IMAGES / "method-maps.png")


def draw_deletion(classifier: Classifier, pixels: Tensor) -> None:
    """The photo with more and more pixels black, by three orders, and what the network says."""
    gradients = class_gradients(classifier, pixels, rivals="top:1")
    maps = dict(saliency_maps(gradients, ["original", "positive"]))
    noise = torch.rand(maps["positive"].shape, generator=torch.Generator().manual_seed(0))
    cells = []
    for name, values in (
        ("positive", maps["positive"]), ("original", maps["original"]), ("random", noise),
    ):  # fmt: skip
        rank = pixel_rank(pixel_order(values))
        for share in SHARES:
            counts = matched_counts(values, [share])[:, 0]
            edited = apply_edit(pixels, filled(pixels, "black"), rank, counts)
            with torch.no_grad():
                chance = classifier.probabilities(classifier(edited))[0]
            best = int(chance.argmax())
            said = f"{classifier.label(best).partition(',')[0]} {100 * float(chance[best]):.0f} %"
            cells.append((f"{name}, {100 * share:.0f} %:\n{said}", _photo(edited)))
    _grid(cells, len(SHARES), IMAGES / "method-deletion.jpg")


def draw_counts(classifier: Classifier) -> None:
    """The share of active pixels of two photos by the number of rivals."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for photo, color in (("cat", INK), ("coffee", ORANGE)):
        pixels = pixels_of(classifier, photo)
        shares = []
        for count in COUNTS:
            gradients = class_gradients(classifier, pixels, rivals=f"top:{count}")
            found = saliency_maps(gradients, "active")
            shares.append(100 * float(found.support["active"].pixels[0]))
            print(photo, count, shares[-1])
        axes.plot(COUNTS, shares, color=color, marker="o", markersize=3, label=photo)
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    axes.set_xticks([1, 10, 100, 999], ["1", "10", "100", "999"])
    axes.set_xlabel("rivals: the best other classes", fontsize=8)
    axes.set_ylabel("active pixels, %", fontsize=8)
    axes.legend(fontsize=8, edgecolor=EDGE)
    _bare(axes)
    figure.savefig(IMAGES / "method-counts.png", dpi=110)


def _photo(pixels: Tensor) -> NDArray[np.uint8]:
    return (pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _grid(cells: Sequence[tuple[str, NDArray[Any]]], columns: int, file: Path) -> None:
    rows = len(cells) // columns
    figure = Figure(figsize=(1.75 * columns, 2.0 * rows), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(rows, columns).flat, cells, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(EDGE)
    options = {"quality": 85, "optimize": True} if file.suffix == ".jpg" else {}
    figure.savefig(file, dpi=110, pil_kwargs=options)


def main() -> None:
    """Draw all five."""
    small = load_classifier("cifar10-cnn")
    pixels = pixels_of(small, "cat")
    target = int(class_gradients(small, pixels).target[0])
    with mpl.rc_context({"savefig.facecolor": "white"}):
        draw_pixels(small, pixels, target)
        draw_planes(small, pixels, target)
        draw_maps(small, pixels, target)
        large = load_classifier("efficientnet-lite0")
        draw_deletion(large, pixels_of(large, "coffee"))
        draw_counts(large)


if __name__ == "__main__":
    main()
