"""The picture of the edit maps, from the packaged photos: `python -m tools.edit_pictures`."""

from pathlib import Path

import numpy as np
import torch

from chiaroscuro import Classifier, class_gradients, edit_map, load_classifier, saliency_maps
from chiaroscuro.choices import SMOOTHING
from chiaroscuro.edits import apply_edit, filled, matched_counts, pixel_order, pixel_rank
from chiaroscuro.images import frame, open_photo, packaged_photo, to_uint8
from chiaroscuro.render.pictures import Rgb, one_sided, smooth, two_sided
from chiaroscuro.render.sheets import Picture, Row, Sheet, save_sheet

IMAGES = Path(__file__).parent.parent / "docs" / "images"
EDITS = [("cat", "black"), ("cat", "white"), ("coffee", "black"), ("coffee", "white")]
SHARE = 0.03


def draw_edit_maps(classifier: Classifier) -> None:
    """Two photos, two fills: the original map, both edit maps, and what they do to the photo."""
    columns = [
        "image",
        "original",
        "expected-effect",
        "partial-edit",
        "by original",
        "by partial-edit",
    ]
    footer = (
        f"maps smoothed; orange: the change lowers the class, blue: it raises it. Last two: "
        f"{100 * SHARE:.0f} % of the pixels changed"
    )
    rows = []
    for name, fill in EDITS:
        label, pictures = _edit_row(classifier, name, fill)
        cells = [Picture(*pair) for pair in zip(pictures, columns, strict=True)]
        rows.append(Row([label, *cells], 1.75, [0.9] + [1] * len(columns)))
    title = "Maps that know the edit, EfficientNet-Lite0"
    save_sheet(Sheet(rows, title, footer=footer, width=9.5), IMAGES / "edit-maps.png")


def _edit_row(classifier: Classifier, name: str, fill: str) -> tuple[str, list[Rgb]]:
    photo, _ = frame(open_photo(packaged_photo(name)), classifier.framing)
    pixels = torch.from_numpy(photo)[None]
    gradients = class_gradients(classifier, pixels, rivals="top:5")
    maps = dict(saliency_maps(gradients, ["original"]))
    for method in ("expected-effect", "partial-edit"):
        maps[method] = edit_map(classifier, pixels, fill, method, target=gradients.target)
    chance, edited = {}, {}
    for order in ("original", "partial-edit"):
        rank = pixel_rank(pixel_order(maps[order]))
        counts = matched_counts(maps[order], [SHARE])[:, 0]
        edited[order] = apply_edit(pixels, filled(pixels, fill), rank, counts)
        with torch.no_grad():
            after = classifier.probabilities(classifier(edited[order]))
        chance[order] = 100 * float(after[0, gradients.target[0]])
    label = classifier.label(int(gradients.target[0])).split(",")[0]
    before = 100 * float(classifier.probabilities(gradients.logits)[0, gradients.target[0]])
    title = f"{label}, {before:.0f} %\nto {fill}:\n" + " / ".join(
        f"{c:.0f} %" for c in chance.values()
    )
    pictures = [_map_picture(order, values[0].numpy()) for order, values in maps.items()]
    changed = [to_uint8(picture[0].numpy()) for picture in edited.values()]
    return title, [to_uint8(photo), *pictures, *changed]


def _map_picture(name: str, values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Rgb:
    seen = smooth(values, SMOOTHING * min(values.shape))
    limit = float(np.quantile(np.abs(seen), 0.99))
    return one_sided(seen, limit, "either") if name == "original" else two_sided(seen, limit)


if __name__ == "__main__":
    draw_edit_maps(load_classifier("efficientnet-lite0"))
