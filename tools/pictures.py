"""The pictures of the documents, from the packaged photos: `python -m tools.pictures [NAME...]`."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from chiaroscuro import PAPER_MAPS, explain, load_classifier
from chiaroscuro.gradients import Method
from chiaroscuro.images import packaged_photo

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH = 1400
FIGURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cat": ("cat", {"rivals": "all"}),
    "coffee": ("coffee", {"rivals": "top:10"}),
    "coffee-smoothgrad": (
        "coffee", {"rivals": "top:10", "method": Method("smoothgrad"), "maps": PAPER_MAPS},
    ),
}  # fmt: skip
"""Each picture's photo, and what `explain` is asked; the first two are those of the demo."""


def main() -> None:
    """Explain the photos, and keep their figures, scaled down."""
    classifier = load_classifier("efficientnet-lite0")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        photo, options = FIGURES[name]
        with tempfile.TemporaryDirectory() as folder:
            explanation = explain(classifier, packaged_photo(photo), **options)
            figure = Image.open(
                explanation.save(Path(folder) / name, figure=True) / "figure.png"
            ).convert("RGB")
        height = round(figure.height * WIDTH / figure.width)
        small = figure.resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.save(IMAGES / f"{name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
