"""Small image sets that tests write: folders of classes, and Parquet in the hub's layout."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

BROKEN = b"\x89PNG\r\n\x1a\n not a picture"


def picture(seed: int, side: int = 16, mode: str = "RGB") -> Image.Image:
    """A random picture with some structure."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
    return image.convert(mode)


def encoded(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_classes(folder: Path, classes: Sequence[str], each: int, side: int = 16) -> None:
    """A folder of class folders; pictures of a class lean to its own color."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(each):
            leaning(k, len(classes), 100 * k + n, side).save(folder / name / f"{n}.png")


def leaning(k: int, classes: int, seed: int, side: int = 16) -> Image.Image:
    """A picture whose brightness says its class."""
    values = np.asarray(picture(seed, side), np.float32) * 0.4 + 150 * k / max(1, classes - 1)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write_parquet(
    file: Path, rows: Sequence[tuple[bytes, int]], classes: Sequence[str], column: str = "image"
) -> None:
    """Rows of (bytes, class) as the Hugging Face image layout has them."""
    features = {
        column: {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    images = [{"bytes": data, "path": None} for data, _ in rows]
    table = pa.table(
        {
            column: pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array([label for _, label in rows], pa.int64()),
        }
    )
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata(about), file)


def class_rows(classes: int, each: int, side: int = 16) -> list[tuple[bytes, int]]:
    """Encoded pictures of every class, classes mixed."""
    return [
        (encoded(leaning(k, classes, 100 * k + n, side)), k)
        for n in range(each)
        for k in range(classes)
    ]
