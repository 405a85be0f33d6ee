"""The report of all benchmarks as Markdown."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.algorithms import OURS, RIVALS
from benchmarks.deletion import BATCH
from benchmarks.gradients import median_spread, ratios
from benchmarks.memory import CLASSES
from benchmarks.works import SEEDED, WORKS

Report = Mapping[str, Any]

HEADS = {
    "published": "the published algorithm",
    "captum": "captum `Saliency`, one call per class",
    "jacrev": "`torch.func.jacrev`, its best chunk",
    "loop": "one retained graph, loop over classes",
}
SHARE_GOAL = 0.6
DELETION_GOAL = 4.0
PREDICTION_GOAL = 0.8
BARE_GOAL = 1.3
PEAK_GOAL = 1e9


def page(report: Report) -> str:
    """The whole page."""
    lines = ["# Speed", "", *_opening(report)]
    for device, works in report["works"].items():
        if not works:
            continue
        lines += ["", f"## {'Maps' if device == 'cpu' else f'Maps on {device}'}"]
        for ours in OURS if device == "cpu" else OURS[1:]:
            lines += [
                "",
                *([_SETTING[ours], ""] if device == "cpu" else []),
                *_ratio_table(works, ours),
            ]
        lines += ["", "### Seconds and memory", "", *_seconds_table(works)]
        lines += ["", "### Details", "", *_notes(works)]
    for title, section, needed in _SECTIONS:
        if all(report.get(part) for part in needed):
            lines += ["", f"## {title}", "", *section(report)]
    return "\n".join(lines) + "\n"


_SETTING = {
    "ours, allocator tuned": "Ours with `tune_allocator()`, as in the command line, its workers "
    "and its page; median (smallest to largest) / goal:",
    "ours": "Ours in a process with the default allocator, as for every rival; median (smallest to "
    "largest):",
}


def _opening(report: Report) -> list[str]:
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return [
        *_conclusion(report["works"].get("cpu", {})),
        "The benchmark computes all five maps in one call and by four other algorithms. Every run "
        "is a fresh process with its library's own defaults (NCHW, the allocator unchanged). The "
        f"algorithms take turns, in both orders, {report['runs']} times; their results are "
        "compared before anything is timed. A ratio is the time of the other algorithm over ours "
        "in the same turn. Seconds differ from machine to machine, ratios less.",
        "",
        f"`make bench` on {machine['processor']} ({machine['cores']} cores, {machine['threads']} "
        f"threads, {machine['vectors']}, {machine['memory_bytes'] / 1e9:.0f} GB{gpu}), "
        f"{machine['system']}, Python {machine['python']}, {versions}; float32.",
    ]


def _conclusion(works: Report) -> list[str]:
    """The page's result in two sentences: speed against the fastest rival, and its memory."""
    if not works:
        return []
    fastest = [
        min(statistics.median(ratios(measured, rival, OURS[0])) for rival in RIVALS)
        for measured in works.values()
    ]
    text = (
        f"All five maps in one call are {min(fastest):.1f} to {max(fastest):.1f} times as fast as "
        "the fastest other algorithm of each work (medians)."
    )
    many = [measured for name, measured in works.items() if WORKS[name].classes == 1000]
    if many:
        ours, loop = (
            [
                max(turn[chosen]["peak_bytes"] / 1e6 for turn in measured["turns"])
                for measured in many
            ]
            for chosen in (OURS[0], "loop")
        )
        text += (
            f" At K = 1000 they need {min(ours):.0f} to {max(ours):.0f} MB above the loaded model, "
            f"where a loop over one retained graph needs {min(loop):.0f} to {max(loop):.0f} MB."
        )
    return [text, ""]


def _ratio_table(works: Report, ours: str) -> list[str]:
    lines = _head(["work", *(f"against {HEADS[rival]}" for rival in RIVALS)])
    for name, measured in works.items():
        cells = []
        for rival in RIVALS:
            wanted = WORKS[name].goals.get(rival) if ours == OURS[0] else None
            goal = f" / {wanted:g}x" if wanted else ""
            cells.append(median_spread(ratios(measured, rival, ours)) + goal)
        lines.append(_row([WORKS[name].title, *cells]))
    return lines


def _seconds_table(works: Report) -> list[str]:
    """Seconds for all classes and peak memory above the loaded model, of everyone."""
    names = list(next(iter(works.values()))["turns"][0])
    order = [*(name for name in OURS if name in names), *RIVALS]
    lines = _head(["work", *order])
    for name, measured in works.items():
        cells = []
        for chosen in order:
            seconds = _median(measured, chosen, "seconds")
            peak = max(turn[chosen]["peak_bytes"] for turn in measured["turns"])
            cells.append(f"{_short(seconds)} s, {peak / 1e6:,.0f} MB")
        lines.append(_row([WORKS[name].title, *cells]))
    return [
        *lines,
        "",
        "Medians of the seconds, the largest of the peaks (above the loaded model). jacrev returns "
        f"the gradients of all classes: at K = 1000 those beyond the {SEEDED} that it computed are "
        "added to its peak, not measured. The goal for ours at K = 1000 by default: under "
        f"{PEAK_GOAL / 1e6:,.0f} MB, and below jacrev.",
    ]


def _notes(works: Report) -> Iterator[str]:
    yield (
        f"- At K = 1000 the rivals run {SEEDED} seeded classes, the target among them, and their "
        "times are scaled by the number of backward passes (a forward pass shared by all of them "
        "counts once). Ours always runs all classes. Work under a second is repeated, up to five "
        "times per run."
    )
    yield (
        "- The published algorithm computes each map separately, active and inactive by a forward "
        "pass and a full backward pass, parameter gradients included, for each class."
    )
    yield (
        "- All but EfficientNet-Lite0 and the basic CNN are torchvision's with seeded random "
        "weights. ResNet-18 has seeded BatchNorm statistics (means of standard deviation 0.1, "
        "variances from 0.5 to 2). "
        "ConvNeXt-Tiny has layer scales of 0.1, since with the initial 1e-6 of a training its "
        "blocks would add nothing. The head of ViT-B/16 is random, where a training's is zero."
    )
    for name, measured in works.items():
        yield f"- {WORKS[name].title}: {'; '.join(_facts(measured))}."


def _facts(measured: Report) -> Iterator[str]:
    gaps = ", ".join(f"{other} {gap:.0e}" for other, gap in measured["differences"].items())
    yield f"largest difference from our maps, divided by their root mean square: {gaps}"
    seconds = ", ".join(
        f"{chunk}: {_short(value)} s" for chunk, value in measured["chunks"].items()
    )
    yield f"jacrev by chunk, {seconds}"
    alone = statistics.median(measured["one class"])
    each = statistics.median(
        turn["published"]["measured_seconds"] / turn["published"]["passes"]
        for turn in measured["turns"]
    )
    yield (
        f"the published algorithm needs {each * 1e3:.1f} ms per class and map, one forward pass "
        f"with its full backward pass alone {alone * 1e3:.1f} ms"
    )
    for rival, whole in measured.get("full", {}).items():
        yield (
            f"{rival} over all classes, one run: {whole['seconds']:.1f} s, scaled from {SEEDED}: "
            f"{_median(measured, rival, 'seconds'):.1f} s"
        )


def _limit(report: Report) -> list[str]:
    rates = report["rates"]
    best, copy = rates["convolution"], rates["copy"]
    lines = _head(
        [
            "work",
            "GFLOP",
            "GFLOP/s",
            "share of the fastest",
            "share for all goals",
            "GB/s",
            "share of a copy",
        ]
    )
    for name, needs in report["needs"].items():
        measured = report["works"]["cpu"].get(name)
        if not measured:
            continue
        seconds = _median(measured, OURS[0], "seconds")
        done, moved = needs["operations"] / seconds, needs["bytes"] / seconds
        asked = max(
            needs["operations"] * goal / _median(measured, rival, "seconds")
            for rival, goal in WORKS[name].goals.items()
        )
        lines.append(
            _row(
                [
                    WORKS[name].title,
                    f"{needs['operations'] / 1e9:,.0f}",
                    f"{done / 1e9:.0f}",
                    f"{100 * done / best:.0f} %",
                    f"{100 * asked / best:.0f} %",
                    f"{moved / 1e9:.1f}",
                    f"{100 * moved / copy:.0f} %",
                ]
            )
        )
    return [
        "The fastest of six convolutions, forward and backward (channels_last, "
        f"{rates['shape']}), reaches {best / 1e9:.0f} GFLOP/s here; a copy of 512 MiB moves "
        f"{copy / 1e9:.1f} GB/s, read and written. The goal is {100 * SHARE_GOAL:.0f} % of the "
        "fastest for ResNet-18 at 224 px.",
        "",
        *lines,
        "",
        "Operations are those of convolutions, linear layers and attention in the backward pass; "
        "one multiply-add is two operations, and channels that are inactive everywhere are left "
        "out. There are as many passes as classes, or as active features (and then a matrix "
        "product with them) if those are clearly fewer. *Share for all goals* is the share of the "
        "fastest that would meet the hardest of the work's goals. Bytes are a lower bound: every "
        "computing step reads its input gradients and writes its output gradients; weights, "
        "masks, views and sums are not counted, and cached values are counted.",
    ]


def _photos(report: Report) -> list[str]:
    photos = report["photos"]
    quartiles = [f"{value:.1f}" for value in statistics.quantiles(photos["ratios"], n=4)]
    return [
        f"EfficientNet-Lite0, K = 1000, {len(photos['ratios'])} seeded photos of "
        "`imagenet-sample`: one retained graph with a loop over the classes takes "
        f"{median_spread(photos['ratios'])} times as long as ours, quartiles {quartiles[0]} and "
        f"{quartiles[2]}. Ours needs {median_spread(photos['ours'], ' s')} per photo, the loop "
        f"{median_spread(photos['loop'], ' s')}. Photos differ because channels that are inactive "
        "everywhere are left out. The largest difference of a map, divided by its root mean "
        f"square and with the loop in the same memory layout, is {photos['gap']:.0e}.",
    ]


def _memory(report: Report) -> list[str]:
    budgets = list(next(iter(report["memory"].values())))
    lines = _head(["work", *(f"peak at {budget} MB" for budget in budgets)])
    for name, peaks in report["memory"].items():
        lines.append(
            _row([WORKS[name].title, *(f"{peak / 1e6:.0f} MB" for peak in peaks.values())])
        )
    return [*lines, "", f"Above the loaded model, with `memory_budget`, {CLASSES} classes."]


def _deletion(report: Report) -> list[str]:
    run = report["deletion"]
    lines = _head(["procedure", "seconds", "images/s"])
    for name in ("ours", "published"):
        seconds = [turn[name] for turn in run["turns"]]
        rate = run["images"] / statistics.median(seconds)
        lines.append(_row([name, median_spread(seconds, " s"), f"{rate:.0f}"]))
    parts = run["parts"]
    best = statistics.median(part["best_rate"] for part in parts)
    share = [100 * value for value in run["prediction_share"]]
    whole = run["whole"]
    return [
        f"{run['images']:,} CIFAR-10 test images, the packaged `cifar10-cnn`, five maps, black "
        "and white, 13 fractions. *Published* starts from decoded images and predicts 130 edited "
        f"images per image in batches of {BATCH}. *Ours* is all of `evaluate`: decoding, maps, "
        "deletion, rows on disk, intervals, figures and page.",
        "",
        *lines,
        "",
        f"- `evaluate` is faster by {median_spread(run['ratios'])}; goal {DELETION_GOAL:g}x. "
        f"The largest difference between the ten mean curves is {run['largest_gap']:.4f}, with "
        "allegiance (the share of images that keep their predicted class) from 0 to 1.",
        f"- Prediction: `curves_by_fill`, orders and edits included, predicts the "
        f"{run['edited']:,} distinct edited images at {median_spread(share, ' %')} of the "
        f"highest rate of a forward pass alone, over batch sizes and layouts "
        f"({best:,.0f} images/s); goal {100 * PREDICTION_GOAL:.0f} %.",
        f"- `evaluate` takes {median_spread(run['over_bare'], digits=2)} the sum of its passes "
        f"alone: the gradients of decoded batches, and the edited images at that highest rate "
        f"({run['bare']:.2f} s); goal {BARE_GOAL:g}x.",
        f"- All {whole['images']:,} test images, one run: {whole['seconds']:.1f} s, "
        f"{whole['images'] / whole['seconds']:.0f} images/s; {whole['over_bare']:.2f}x that "
        f"sum and {whole['ratio']:.1f}x as fast as the published procedure, both scaled from "
        f"{run['images']:,} images.",
    ]


_SECTIONS = (
    ("Twenty photos", _photos, ("photos",)),
    ("Share of the machine's limit", _limit, ("rates", "needs")),
    ("Memory at budgets", _memory, ("memory",)),
    ("Deletion", _deletion, ("deletion",)),
)


def _median(run: Report, chosen: str, what: str) -> float:
    return float(statistics.median(turn[chosen][what] for turn in run["turns"]))


def _short(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|---|" + "---:|" * (len(cells) - 1)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
