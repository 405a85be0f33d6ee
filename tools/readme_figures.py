"""What README and documents share: the figures of speed, and the first screen.

The figures are those of docs/results/speed.md, which `make bench` writes; docs/index.md begins with
the README's first screen. `python -m tools.readme_figures` brings both up to date; tests compare.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, SPEED = ROOT / "README.md", ROOT / "docs" / "results" / "speed.md"
INDEX = ROOT / "docs" / "index.md"
FURTHER = "## Where to go next\n"
BEGIN, END = "<!-- figures of docs/results/speed.md -->\n", "<!-- end -->"
_RIVALS = {
    "loop": "one graph, a loop over the classes",
    "jacrev": "`torch.func.jacrev`",
    "captum": "Captum's `Saliency`, class by class",
    "published": "the paper's code",
}


def updated(readme: str, speed: str) -> str:
    """The README with the figures of the page of speed."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([f"{head}{BEGIN.rstrip()}", *figures(speed), f"{END}{tail}"])


def home(readme: str, index: str) -> str:
    """The home page with the README's first screen, its links as seen from docs/."""
    screen, _, _ = readme.partition("## Why not Captum?\n")
    return screen.replace("](docs/", "](") + FURTHER + index.partition(FURTHER)[2]


def figures(speed: str) -> Iterator[str]:
    """The table of the best rival for each work, and what twenty photos say."""
    ratios, costs = _table(speed, "Ours with `tune_allocator()`"), _table(speed, "### Seconds and")
    yield "| work | ours | best other way | takes |"
    yield "|---|---:|---|---:|"
    for work, cells in ratios.items():
        times = dict(
            zip(("published", "captum", "jacrev", "loop"), map(_ratio, cells), strict=True)
        )
        best = min(times, key=times.__getitem__)
        ours, _, *others = costs[work]
        cost = dict(zip(("published", "captum", "jacrev", "loop"), others, strict=True))[best]
        yield f"| {work} | {ours} | {_RIVALS[best]}: {cost} | {times[best]:.1f}x as long |"
    photos = re.search(
        r"(\d+) seeded photos .*? takes ([\d.]+)x \(([\d.]+)-([\d.]+)\) times as long as ours",
        speed,
    )
    if photos:
        count, median, low, high = photos.groups()
        yield ""
        yield (
            f"Photos differ: over {count} of them the loop takes {median} times as long as ours on "
            f"EfficientNet-Lite0 (median; {low} to {high})."
        )
    least = re.search(r"\| work \| peak at (\d+) MB \|", speed)
    small = [cells[0] for cells in _table(speed, "## Memory at budgets").values()]
    assert least is not None
    yield ""
    yield (
        f"MB are the peak above the loaded model. `memory_budget={least[1]}_000_000` keeps the "
        f"three large convolutional networks at {', '.join(small[:-1])} and {small[-1]}."
    )


def _table(page: str, after: str) -> Mapping[str, list[str]]:
    """The cells of the first table after a line that begins so, by each row's first cell."""
    lines = page[page.index(after) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


def _ratio(cell: str) -> float:
    return float(cell.partition("x")[0])


def main() -> None:
    """Write the README and the home page."""
    README.write_text(updated(README.read_text(), SPEED.read_text()))
    INDEX.write_text(home(README.read_text(), INDEX.read_text()))


if __name__ == "__main__":
    main()
