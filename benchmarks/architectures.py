"""What the check of every architecture found, as a page."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from benchmarks.networks import WITHOUT_TRANSFORMERS

CLASSES = 10
TIMED = ((100, "float32"), (1000, "float32"), (1000, "bfloat16"))
"""Classes and precision of each time."""
CLEAR = 1e-11
"""A larger difference is held against plain autograd's own between two memory layouts."""
_LIBRARIES = ("torch", "torchvision", "timm", "transformers")


@dataclass(frozen=True)
class Row:
    """The result for one network.

    `size` of its images in pixels. `gap`: the largest difference from plain autograd, over the
    largest gradient; `floor`: plain autograd's own between two memory layouts, where `gap` is above
    `CLEAR`. `by_class`: how many operations of each kind went class by class. `notes` of the
    result. `error`: why there is no gap. `ratios`: a loop's time over ours, for each of `TIMED`.
    """

    name: str
    size: int = 0
    parameters: int = 0
    gap: float = 0.0
    floor: float = 0.0
    by_class: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    ratios: tuple[float, ...] = ()


def operations(row: Row) -> str:
    """The operations that went class by class, with their counts."""
    counted = (row.by_class or {}).items()
    return ", ".join(f"{_plain(kind)} {count}" for kind, count in counted)


def _plain(kind: str) -> str:
    return kind.removesuffix("0").removesuffix("Backward")


def page(rows: Sequence[Row], listed: int) -> str:
    """All rows of `listed` networks, what went class by class, and what could not be checked."""
    done = [row for row in rows if not row.error]
    failed = [row for row in rows if row.error]
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in done:
        for kind in row.by_class or {}:
            kinds[_plain(kind)].append(row)
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    fast = sum(not row.by_class for row in done)
    clear = [row for row in done if row.gap <= CLEAR]
    others = [row.gap for row in done if row.gap > CLEAR]
    unclear = (
        f" The other {len(others)} divide by numbers near zero, and their difference is up to "
        f"{max(others):.0e}: plain autograd differs from itself about as much, between two memory "
        "layouts, as their rows say."
        if others
        else ""
    )
    waiting = listed - len(rows)
    more = (
        f" {waiting} of the {listed} networks of the list are not checked yet." if waiting else ""
    )
    return "\n".join(
        [
            "# Architectures",
            "",
            f"Gradients of {len(done)} networks equal plain autograd's in float64: those of "
            f"{len(clear)} to {max(row.gap for row in clear):.0e} of a network's largest gradient "
            f"(median {median(row.gap for row in done):.0e}).{unclear} The list holds a network of "
            "each family of timm, the image classifiers of transformers and every classifier of "
            f"torchvision ({versions}), with random weights and small images.{more} `python -m "
            "benchmarks.zoo --write` checks them and writes this page.",
            "",
            f"The *difference* is the largest one of four questions: all of {CLASSES} classes for "
            "two images (target, largest and smallest rival), the same for one image alone, one "
            "class by `target_gradients`, and `logit_change` along a random direction. Weights "
            "that start constant, as scales of zero, are made random, so that every branch counts.",
            "",
            "*Class by class* counts operations that have no rule for many classes at once: they "
            f"are right too, and cost time. {len(done) - fast} of {len(done)} networks have any.",
            *_times(done),
            *_kinds(ordered),
            "",
            "## Networks",
            "",
            "| network | px | parameters | difference | class by class |",
            "|---|---:|---:|---:|---|",
            *map(_network_line, done),
            "",
            "## Not checked",
            "",
            *(f"- {row.name}: {row.error}" for row in failed),
            *(f"- transformers:{name}: {why}" for name, why in WITHOUT_TRANSFORMERS.items()),
            "",
        ]
    )


def _times(rows: Sequence[Row]) -> list[str]:
    timed = [row for row in rows if row.ratios]
    if not timed:
        return []
    heads = [f"{count} classes, {precision}" for count, precision in TIMED]
    return [
        "",
        "## Times of some",
        "",
        "How many times longer a loop over all classes on one retained graph takes, in float32, "
        "than ours in float32 and `bfloat16` for one image of 224 px (`--time`): the second call "
        "of both, garbage collection off, the loop's time extrapolated from 3 and 11 classes, one "
        "run.",
        "",
        f"| network | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(TIMED)}",
        *(
            f"| {' | '.join([row.name, *(f'{each:.1f}x' for each in row.ratios)])} |"
            for row in timed
        ),
    ]


def _kinds(ordered: Sequence[tuple[str, Sequence[Row]]]) -> list[str]:
    """What went class by class, the most frequent first."""
    heads = ["", "## Operations that go class by class", ""]
    table = ["| operation | networks | such as |", "|---|---:|---|"]
    return [*heads, *table, *(_kind_line(*each) for each in ordered)] if ordered else []


def _kind_line(kind: str, rows: Sequence[Row]) -> str:
    examples = ", ".join(row.name.partition(":")[2] for row in rows[:6])
    return f"| {kind} | {len(rows)} | {examples}{', ...' if len(rows) > 6 else ''} |"


def _network_line(row: Row) -> str:
    floor = f"plain autograd in two memory layouts: {row.floor:.0e}" if row.floor else ""
    notes = "; ".join(filter(None, (operations(row), floor, *row.notes)))
    size, count = f"{row.size} | {row.parameters / 1e6:.1f} M", row.gap
    return f"| {row.name} | {size} | {count:.0e} | {notes or '-'} |"
