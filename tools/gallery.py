"""The gallery's pictures: the commands of docs/gallery.md are run, and what they saved is drawn.

python -m tools.gallery [NAME...]
"""

import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from PIL import Image
from typer.testing import CliRunner

from chiaroscuro import overlay
from chiaroscuro.cli import app
from chiaroscuro.images import to_uint8
from chiaroscuro.results import load
from chiaroscuro.results.changes import WhatIf
from chiaroscuro.results.explanations import Comparison, Explanation

DOCS = Path(__file__).parents[1] / "docs"
GALLERY = DOCS / "gallery.md"
SIZE = 448, 448
PHOTOS: Mapping[str, tuple[str, str]] = {
    "astronaut.png": ("skimage", "data/astronaut.png"),
    "brick.png": ("skimage", "data/brick.png"),
    "camera.png": ("skimage", "data/camera.png"),
    "cat.png": ("chiaroscuro", "photos/cat.png"),
    "coffee.png": ("chiaroscuro", "photos/coffee.png"),
    "flower.jpg": ("sklearn", "datasets/images/flower.jpg"),
    "palace.jpg": ("sklearn", "datasets/images/china.jpg"),
    "rocket.jpg": ("skimage", "data/rocket.jpg"),
}
"""The photos by the names that the page gives them: the package, and the file in it."""


@dataclass(frozen=True)
class Entry:
    """A section of the gallery: a picture, and the commands behind it."""

    title: str
    commands: tuple[str, ...]
    picture: Path


def entries() -> list[Entry]:
    """The sections that have a picture."""
    found = []
    for section in re.split(r"^## ", GALLERY.read_text(), flags=re.MULTILINE)[1:]:
        pictures = re.findall(r"!\[.*?\]\((images/gallery/[\w-]+\.jpg)\)", section)
        blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        commands = "".join(blocks).replace("\\\n", " ").splitlines()
        if pictures:
            title = section.partition("\n")[0]
            found.append(Entry(title, tuple(commands), DOCS / pictures[0]))
    return found


def prepare(folder: Path) -> None:
    """Put the photos and the page's Python files into a folder."""
    for name, (package, file) in PHOTOS.items():
        spec = find_spec(package)
        assert spec is not None, f"{package} is not installed: it holds {name}"
        assert spec.origin is not None
        shutil.copy(Path(spec.origin).parent / file, folder / name)
    for name, code in re.findall(
        r"```python\n# (\w+\.py)\n(.*?)```", GALLERY.read_text(), re.DOTALL
    ):
        (folder / name).write_text(code)


def results(entry: Entry) -> Iterator[Any]:
    """What the commands save, run in the current folder."""
    for count, command in enumerate(entry.commands):
        out = f"{entry.picture.stem}-{count}"
        words = [*shlex.split(command)[1:], "--out", out, "--force"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{command}: {done.output}"
        markers = sorted(Path(out).rglob("chiaroscuro-*.json"), key=lambda file: len(file.parts))
        yield load(next(file for file in markers if "gallery" not in file.name).parent)


def draw(entry: Entry) -> None:
    """Write an entry's picture: what the network saw once, then the panels of every result."""
    panels = [panel for result in results(entry) for panel in _panels(result)]
    firsts = [panel for panel in panels if panel[0] == panels[0][0]]
    shown = [firsts[0], *(panel for panel in panels if panel[0] != panels[0][0])]
    figure, axes = plt.subplots(1, len(shown), figsize=(2.6 * len(shown), 2.95), squeeze=False)
    for ax, (title, picture) in zip(axes[0], shown, strict=True):
        ax.imshow(picture)
        ax.set_title(title, fontsize=9, parse_math=False)
        ax.set_axis_off()
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.9, wspace=0.03)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    entry.picture.parent.mkdir(exist_ok=True)
    Image.open(buffer).convert("RGB").save(entry.picture, quality=82, optimize=True)


def _panels(result: Any) -> Iterator[tuple[str, Any]]:
    match result:
        case Explanation():
            best = result.predictions[0]
            yield f"{_short(best.label)} {best.probability:.0%}", _seen(result.pixels)
            method = "" if result.choices.method.name == "gradient" else ", smoothgrad"
            rivals = result.choices.rivals
            if len(result.rivals) == 1 and not rivals.startswith("top"):
                rivals = f"not {_short(result.labels[result.rivals[0]])}"
            for name in result.maps:
                yield f"{name}, {rivals}{method}", _cropped(result, name)
        case WhatIf():
            for title, pixels, best in (
                ("before", result.pixels, result.before[0]),
                ("after", result.edited, result.after[0]),
            ):
                yield f"{title}: {_short(best.label)} {best.probability:.0%}", _seen(pixels)
        case Comparison():
            yield "what both see", _seen(result.explanations[0].pixels)
            for name, one in zip(result.names, result.explanations, strict=True):
                for map_name in one.maps:
                    yield f"{map_name}, {name.partition(' ')[2]}", _cropped(one, map_name)


def _seen(pixels: Any) -> Image.Image:
    return Image.fromarray(to_uint8(pixels)).resize(SIZE, Image.Resampling.NEAREST)


def _cropped(result: Explanation, name: str) -> Image.Image:
    """A map over what the network saw of the photo, stretched as the network saw it."""
    crop = result.crop
    box = (round(crop.left), round(crop.top), round(crop.right), round(crop.bottom))
    return overlay(result, name).crop(box).resize(SIZE, Image.Resampling.LANCZOS)


def _short(label: str) -> str:
    return label.partition(",")[0]


def main(names: list[str]) -> None:
    """Draw the entries by the names of their pictures, or all."""
    chosen = [entry for entry in entries() if not names or entry.picture.stem in names]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        before = Path.cwd()
        os.chdir(folder)
        try:
            for entry in chosen:
                draw(entry)
        finally:
            os.chdir(before)


if __name__ == "__main__":
    main(sys.argv[1:])
