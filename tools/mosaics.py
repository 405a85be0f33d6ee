"""Mosaics of four photos with a box around one: a set to localize on, built from any labeled set.

    python -m tools.mosaics SOURCE OUT

SOURCE is a Parquet file in the Hugging Face image layout. OUT gets `mosaics.parquet`, in the same
layout and with the class of the boxed photo as label, and `boxes.json`. The boxed photo's corner
goes round, so a random pixel hits it one time in four. The other photos are of other classes
(the grid pointing game of Boehle et al., Convolutional dynamic alignment networks, 2021).
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

SIDE = 160
COUNT = 100


def main(source: Path, out: Path) -> None:
    """Write the set: `COUNT` mosaics of cells `SIDE` pixels wide, drawn with seed 0."""
    rows = parquet.read_table(source)
    pictures, labels = rows["image"].to_pylist(), rows["label"].to_pylist()
    rng = np.random.default_rng(0)
    images, of, boxes = [], [], {}
    for n in range(COUNT):
        chosen = _of_four_classes(rng.permutation(len(labels)).tolist(), labels)
        canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        for place, row in enumerate(chosen):
            # The first photo of the draw, the boxed one, goes round the corners.
            corner = (place + n) % 4
            canvas.paste(_cell(pictures[row]["bytes"]), _corner(corner))
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
        of.append(labels[chosen[0]])
        left, top = _corner(n % 4)
        boxes[f"mosaics#{n}"] = [[left, top, left + SIDE, top + SIDE]]
    out.mkdir(parents=True, exist_ok=True)
    shape = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, shape), "label": pa.array(of, pa.int64())})
    parquet.write_table(
        table.replace_schema_metadata(rows.schema.metadata), out / "mosaics.parquet"
    )
    (out / "boxes.json").write_text(json.dumps(boxes))


def _of_four_classes(order: list[int], labels: list[int]) -> list[int]:
    """The first rows of an order that have four different classes."""
    chosen: dict[int, int] = {}
    for row in order:
        if len(chosen) < 4:
            chosen.setdefault(labels[row], row)
    return list(chosen.values())


def _corner(place: int) -> tuple[int, int]:
    return SIDE * (place % 2), SIDE * (place // 2)


def _cell(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short))
    return square.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
