"""The pictures of the documents, from the packaged photos: `python -m tools.pictures`."""

import tempfile
from pathlib import Path

from PIL import Image

from chiaroscuro import explain, load_classifier
from chiaroscuro.images import packaged_photo

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH = 1400
RIVALS = {"cat": "all", "coffee": "top:10"}


def main() -> None:
    """Explain the two photos as the demo does, and keep their figures, scaled down."""
    classifier = load_classifier("efficientnet-lite0")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, rivals in RIVALS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = explain(classifier, packaged_photo(name), rivals=rivals)
            figure = Image.open(found.save(Path(folder) / name) / "figure.png").convert("RGB")
        height = round(figure.height * WIDTH / figure.width)
        small = figure.resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.save(IMAGES / f"{name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
