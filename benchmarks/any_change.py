"""Eight scores of every map, those that are made for no single change among them.

    python -m benchmarks.any_change measure --network cifar10-cnn --images 300 --data-root DIR
    python -m benchmarks.any_change table --network cifar10-cnn --images 300
    python -m benchmarks.any_change figure --network cifar10-cnn --images 300
    python -m benchmarks.any_change checks --network cifar10-cnn --images 64 --data-root DIR

Images and networks as in `benchmarks.edit_maps report`: test images of CIFAR-10, or the odd rows of
`imagenet-sample`. Deletion by black, white, mean and blur and ROAD have areas over shares to 0.5,
insertion into a strong blur and keeping the top on black over 0.5 to 0.97 (`edit_scores`); the
symmetric relevance gain (Bluecher et al., 2024) is the area when the least important pixels go
first minus that when the most important do, over shares to 0.97, as a mean of the four fills.
`measure` writes the values of each batch and method to --out and resumes there. `table` compares
every map with any-change image by image: a score is won where no other map is better with p below
0.05 (two-sided, 1,999 sign flips, not corrected). `checks` has other rows: noise, weights and other
points, or the energy on mosaics (`tools.mosaics`).
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.pyplot import rc_context, subplots
from torch import Tensor

from benchmarks.edit_maps import Floats, Work, interval_text, prepare
from benchmarks.edit_scores import randomized, road, spearman
from chiaroscuro import Classifier, class_gradients, edit_map, load_images, saliency_maps
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.checks.regions import load_regions
from chiaroscuro.data.images import read_batches
from chiaroscuro.edits import noisy, tie_priority
from chiaroscuro.errors import ChiaroscuroError
from chiaroscuro.gradients import Method
from chiaroscuro.metrics import curves_by_fill
from chiaroscuro.metrics.agreement import localization
from chiaroscuro.metrics.intervals import SignFlips

OWN = "any-change"
FILLS = ("black", "white", "mean", "blur")
SHARES = (0.0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97)
PHOTO_SHARES = (0.0, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
HALF = 0.5
LOWER = (*FILLS, "ROAD")
SCORES = (*LOWER, "insertion", "keep", "gain")
KINDS = ("original", "positive", "negative", "active", "inactive", "margin")
COMPETING = {"active", "inactive", "margin"}
METHODS = (
    "gradient", "smoothgrad", "integrated-gradients", "input-x-gradient", "expected-gradients",
    "guided-backprop", "deeplift",
)  # fmt: skip
"""LRP's epsilon rule equals input x gradient on these networks, or fails on them."""
SHOWN = (
    OWN, "partial-edit, black", "partial-edit, white", "partial-edit, mean", "partial-edit, blur",
    "gradient, original", "gradient, positive", "gradient, negative", "gradient, margin",
    "smoothgrad, original", "smoothgrad, positive", "smoothgrad, negative",
    "integrated-gradients, positive",
    "expected-gradients, positive", "guided-backprop, positive", "random",
)  # fmt: skip
"""The maps of the figure."""
_NOISE = 0.02
_FLIPS = 1999
MakeMaps = Callable[[Classifier, Tensor, Tensor], Mapping[str, Tensor]]


def groups(background: Tensor, kinds: Sequence[str]) -> dict[str, MakeMaps]:
    """Maps by the pass that makes them, the likely best first."""
    made: dict[str, MakeMaps] = {OWN: lambda c, x, t: {OWN: edit_map(c, x, "mean", OWN, target=t)}}
    made["random"] = lambda _, x, __: {"random": tie_priority(x, 1).float().view_as(x[:, 0])}
    for fill in FILLS:
        made[f"partial-edit, {fill}"] = _edit("partial-edit", fill)
    for name in METHODS:
        others = background if name == "expected-gradients" else None
        made[name] = _by_gradients(name, others, kinds)
    for fill in FILLS:
        made[f"expected-effect, {fill}"] = _edit("expected-effect", fill)
    return made


def _edit(name: str, fill: str) -> MakeMaps:
    return lambda c, x, t: {f"{name}, {fill}": edit_map(c, x, fill, name, target=t)}


def _by_gradients(name: str, background: Tensor | None, kinds: Sequence[str]) -> MakeMaps:
    def maps(classifier: Classifier, pixels: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        rivals = "top:10" if min(pixels.shape[2:]) > 32 else "all"
        if not COMPETING.intersection(kinds):
            rivals = "top:1"  # they have no influence, and cost
        method = Method(name, background=background)
        found = saliency_maps(class_gradients(classifier, pixels, target, rivals, method), kinds)
        return {f"{name}, {kind}": values for kind, values in found.items()}

    return maps


def measure(work: Work, made: Mapping[str, MakeMaps], out: Path) -> None:
    """Write the eight scores (B, 8) of every map of each batch, those that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for name, make in made.items():
        for number, (pixels, target) in enumerate(work.batches()):
            path = out / f"{name}-{number}.npz"
            if path.exists():
                continue
            try:
                maps = make(work.classifier, pixels, target)
            except ChiaroscuroError as error:
                print(f"{name} fails: {error}", flush=True)
                break
            scores = {m: scores_of(work, pixels, target, v) for m, v in maps.items()}
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, **scores)  # type: ignore[arg-type]
            part.rename(path)
            print(path.name, flush=True)


def scores_of(work: Work, pixels: Tensor, target: Tensor, values: Tensor) -> Floats:
    """The scores of one map (B, 8), in the order of `SCORES`."""
    every: tuple[float, ...] = PHOTO_SHARES if work.by_range else SHARES
    shares = every
    areas: dict[str, Floats] = {}
    gains = []
    for fill in (*FILLS, "blur:0.2"):
        if fill not in FILLS:  # for insertion alone
            shares = (0.0, *(share for share in shares if share >= HALF))
        curves = curves_by_fill(
            work.classifier, pixels, {"map": values}, [fill], shares, ["matched"], target=target
        )[fill]
        falling, rising = (
            curves["matched", key].allegiance.double().numpy() for key in ("map", "inverted:map")
        )
        areas[fill] = _area(falling, shares, 0.0, HALF)
        areas[f"{fill} kept"] = _area(rising, shares, HALF, 1.0)
        gains.append(_area(rising, shares, 0.0, 1.0) - _area(falling, shares, 0.0, 1.0))
    own = {fill: areas[fill] for fill in FILLS}
    own["ROAD"] = road(
        work.classifier, pixels, target, values, tuple(share for share in every if share <= HALF)
    )
    own["insertion"], own["keep"] = areas["blur:0.2 kept"], areas["black kept"]
    own["gain"] = np.mean(gains[: len(FILLS)], axis=0)
    stacked: Floats = np.stack([own[score] for score in SCORES], axis=1)
    return stacked


def _area(kept: Floats, shares: tuple[float, ...], low: float, high: float) -> Floats:
    chosen = [n for n, share in enumerate(shares) if low <= share <= high]
    over = np.array(shares)[chosen]
    areas: Floats = np.asarray(np.trapezoid(kept[:, chosen], over, axis=-1) / (over[-1] - over[0]))
    return areas


def read_scores(out: Path) -> dict[str, Floats]:
    """Scores (B, 8) by map, of the batches that every group of the folder has."""
    parts: dict[str, dict[int, Path]] = {}
    for path in out.glob("*.npz"):
        group, _, place = path.stem.rpartition("-")
        parts.setdefault(group, {})[int(place)] = path
    found: dict[str, list[Floats]] = {}
    for paths in parts.values():
        for number in sorted(paths):
            with np.load(paths[number]) as scores:
                for map_ in scores.files:
                    found.setdefault(map_, []).append(scores[map_])
    whole = max(sum(map(len, rows)) for rows in found.values())
    return {
        name: np.concatenate(rows)
        for name, rows in sorted(found.items())
        if sum(map(len, rows)) == whole
    }


def better(own: Floats, other: Floats) -> tuple[Floats, Floats]:
    """How much better (8,) another map's scores (B, 8) are, and p."""
    sign = np.array([1.0 if score in LOWER else -1.0 for score in SCORES])
    difference = sign * (own - other)
    flips = SignFlips(len(SCORES), _FLIPS, 0)
    flips.add(difference)
    return difference.mean(axis=0), np.asarray(flips.p_values())


def table(out: Path) -> str:
    """Every map's scores; a star where it is better than any-change with p below 0.05."""
    scores = read_scores(out)
    lines = [f"| map | {' | '.join(SCORES)} | best in |", f"|{'---|' * (2 + len(SCORES))}"]
    for name, rows in scores.items():
        gain, p = better(scores[OWN], rows)
        stars = (gain > 0) & (p < 0.05)
        cells = [interval_text(rows[:, n]) + " *" * bool(s) for n, s in enumerate(stars)]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(best_in(scores, name))} |")
    lines.append(f"\n{len(scores[OWN])} images, {len(scores)} maps. {OWN} is the best or not ")
    lines[-1] += f"significantly different from it in: {', '.join(best_in(scores, OWN))}.\n"
    lines.append("| score | best other map | better than any-change by | p |\n|---|---|---|---|")
    for n, score in enumerate(SCORES):
        others = {name: better(scores[OWN], rows) for name, rows in scores.items() if name != OWN}
        name = max(others, key=lambda each: others[each][0][n])
        sign = 1 if score in LOWER else -1
        text = interval_text(sign * (scores[OWN] - scores[name])[:, n])
        lines.append(f"| {score} | {name} | {text} | {others[name][1][n]:.4f} |")
    return "\n".join(lines)


def best_in(scores: Mapping[str, Floats], name: str) -> list[str]:
    """The scores in which no other map is better than this one with p below 0.05."""
    lost = np.zeros(len(SCORES), dtype=bool)
    for rows in scores.values():
        gain, p = better(scores[name], rows)
        lost |= (gain > 0) & (p < 0.05)
    return [score for score, gone in zip(SCORES, lost, strict=True) if not gone]


def figure(out: Path, path: Path) -> None:
    """How far each map is from random (0) to the best map (1) of each score, drawn as cells."""
    scores = read_scores(out)
    means = {name: rows.mean(axis=0) for name, rows in scores.items()}
    names = [name for name in SHOWN if name in means]
    sign = np.array([-1.0 if score in LOWER else 1.0 for score in SCORES])
    best = np.max([sign * row for row in means.values()], axis=0)
    start = sign * means["random"]
    shares = np.stack([(sign * means[name] - start) / (best - start) for name in names])
    with rc_context({"font.size": 11}):
        drawing, axes = subplots(figsize=(11, 0.42 * len(names) + 1.2), layout="constrained")
        cells = axes.imshow(shares.clip(-1, 1), cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
        ends = [f"{score} {'↓' if score in LOWER else '↑'}" for score in SCORES]
        axes.set_xticks(range(len(SCORES)), ends)
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if abs(share) > 0.7 else "black"
            text = f"{means[names[row]][column]:.3f}"
            axes.text(column, row, text, ha="center", va="center", color=color)
        bar = drawing.colorbar(cells, ax=axes, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["worse than\nrandom", "random", "best map"])
        drawing.savefig(path, dpi=110)


def checks(work: Work, mosaics: Path | None) -> Iterator[str]:
    """Rank correlation under noise, random weights and other points; or energy on mosaics."""
    rivals = "top:10" if work.by_range else "all"

    def every(classifier: Classifier, pixels: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        gradients = class_gradients(classifier, pixels, target, rivals)
        return {**saliency_maps(gradients, KINDS), OWN: _own(classifier, pixels, target)}

    if mosaics is not None:
        yield from _rows(_energy(work.classifier, mosaics, len(work.pixels), every))
        return
    found: dict[str, dict[str, list[Floats]]] = {}
    for pixels, target in work.batches():
        maps = every(work.classifier, pixels, target)
        others: dict[str, Mapping[str, Tensor]] = {
            f"noise of {_NOISE}": every(work.classifier, noisy(pixels, _NOISE), target),
            "random weights": every(randomized(work.classifier), pixels, target),
            "other points": {
                OWN: _own(work.classifier, pixels, target, torch.Generator().manual_seed(1))
            },
        }
        for column, other in others.items():
            for name, values in other.items():
                rows = found.setdefault(name, {}).setdefault(column, [])
                rows.append(spearman(maps[name], values))
    yield from _rows(found)


def _own(
    classifier: Classifier, pixels: Tensor, target: Tensor, source: torch.Generator | None = None
) -> Tensor:
    return edit_map(classifier, pixels, "mean", OWN, target=target, generator=source)


def _energy(
    classifier: Classifier, folder: Path, count: int, every: MakeMaps
) -> dict[str, dict[str, list[Floats]]]:
    images = load_images(str(folder / "mosaics.parquet"), limit=count)
    regions = load_regions(str(folder / "boxes.json"), images.split)
    found: dict[str, dict[str, list[Floats]]] = {}
    for batch in read_batches(images, classifier.framing, 4):
        pixels = torch.from_numpy(np.stack(batch.pixels))
        target = torch.tensor(batch.labels)
        inside = torch.from_numpy(
            np.stack(
                [
                    np.asarray(regions.region(id_, crop, (pixels.shape[2], pixels.shape[3])))
                    for id_, crop in zip(batch.ids, batch.crops, strict=True)
                ]
            )
        )
        maps = dict(every(classifier, pixels, target))
        maps[f"{OWN}, above 0"] = maps[OWN].relu()
        for name, values in maps.items():
            located = localization(values, inside)
            for column, cell in (("energy", located.energy), ("highest pixel", located.hit)):
                found.setdefault(name, {}).setdefault(column, []).append(cell.double().numpy())
    return found


def _rows(found: Mapping[str, Mapping[str, list[Floats]]]) -> Iterator[str]:
    columns = list(dict.fromkeys(c for row in found.values() for c in row))
    yield f"\n| map | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}"
    for name, row in found.items():
        cells = [interval_text(np.concatenate(row[c])) if c in row else "1" for c in columns]
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["measure", "table", "figure", "checks"])
    parser.add_argument("--network", default="cifar10-cnn")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--batch", type=int, default=100, help="images of 32 px together")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="maps of methods")
    parser.add_argument("--only", nargs="*", help="methods and edit maps to measure, as in rows")
    parser.add_argument(
        "--mosaics",
        type=Path,
        help="checks: of a folder that tools.mosaics wrote, energy in the box",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/any-change"))
    arguments = parser.parse_args()
    network = Path(arguments.network).name
    out = arguments.out / f"{network}-{arguments.images}-{arguments.seed}"
    if arguments.task == "table":
        print(table(out))
        return
    if arguments.task == "figure":
        figure(out, Path(f"any-change-{network}.png"))
        return
    tune_allocator()
    torch.manual_seed(0)
    chosen = arguments.network, arguments.images, arguments.seed, arguments.data_root
    work = prepare(*chosen, tuning=False)
    work = replace(work, batch=4 if work.by_range else min(arguments.batch, work.batch))
    if arguments.task == "measure":
        others = prepare(chosen[0], 64, *chosen[2:], tuning=True).pixels
        made = groups(others, arguments.kinds)
        measure(work, {name: made[name] for name in arguments.only or made}, out)
    else:
        print("\n".join(checks(work, arguments.mosaics)))


if __name__ == "__main__":
    main()
