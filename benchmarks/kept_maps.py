"""What stored maps take, and what narrow numbers lose: docs/how-to/keep-maps.md.

    python -m benchmarks.kept_maps --data-root DIR

DIR holds the folders cifar10 and imagenet-sample. Of each map: the share of values that are not
zero, and of those the share that becomes zero in float16 and in int8; means over images with
bootstrap intervals. Then bytes per image and map, float32 being the control, without compression
too.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from chiaroscuro import export_maps, load_classifier
from chiaroscuro.choices import MAP_DTYPES
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.evaluation.rows import stacked
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.results.maps import MapLayout

MAPS = ("original", "positive", "active", "signed")
SETS = (
    ("cifar10-cnn", "cifar10", 1000, "all"),
    ("efficientnet-lite0", "imagenet-sample", 100, "top:10"),
)
SEED, RESAMPLES = 0, 1000


def main() -> None:
    """Print both tables of each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, required=True)
    root = parser.parse_args().data_root
    for model, data, limit, rivals in SETS:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "kept"
            options: dict[str, Any] = {"limit": limit, "rivals": rivals, "maps": MAPS}
            export_maps(load_classifier(model), root / data, out, seed=SEED, **options)
            title = f"{model}, {limit} images of {data} drawn with seed {SEED}, rivals {rivals}"
            print("\n".join([f"\n{title}\n", *tables(StoredMaps.open(out))]))


def tables(stored: StoredMaps) -> Iterator[str]:
    """The lines of both tables."""
    size = dict.fromkeys(MAP_DTYPES, 0)
    shares = BootstrapMeans(3 * len(MAPS), RESAMPLES, SEED)
    batch, images = stored.config.batch, stored.export.data.images
    _, _, height, width = stored.export.shape
    layout = MapLayout(MAPS, (height, width), batch, "float32")
    for number, (listed, values) in enumerate(stored.parts()):
        places = [one.image - number * batch for one in listed]
        there = values != 0
        found = [there.mean(axis=(2, 3))]
        for dtype in MAP_DTYPES:
            kept, scale = replace(layout, dtype=dtype).stored(values)
            files = replace(layout, dtype=dtype).files(number, places, kept, scale)
            size[dtype] += sum(map(len, files.values()))
            if dtype != "float32":
                lost = (there & (kept == 0)).sum(axis=(2, 3))
                found.append(lost / np.maximum(there.sum(axis=(2, 3)), 1))
        shares.add(np.stack(found, axis=2).reshape(len(listed), -1))
    ends = stacked(shares.interval(0.95), len(MAPS), 3)
    yield "| map | not zero | becomes zero in float16 | in int8 |\n|---|---:|---:|---:|"
    for m, name in enumerate(MAPS):
        cells = (" to ".join(f"{100 * end[m, i]:.2f}" for end in ends[1:]) for i in range(3))
        means = (f"{100 * ends[0][m, i]:.2f} %" for i in range(3))
        figures = (f"{mean} ({cell})" for mean, cell in zip(means, cells, strict=True))
        yield f"| {name} | {' | '.join(figures)} |"
    yield f"\n| bytes per image and map | {' | '.join(MAP_DTYPES)} |\n|---|{'---:|' * 3}"
    whole = " | ".join(f"{height * width * np.dtype(dtype).itemsize:,}" for dtype in MAP_DTYPES)
    packed = " | ".join(f"{size[dtype] / images / len(MAPS):,.0f}" for dtype in MAP_DTYPES)
    yield f"| without compression | {whole} |\n| as stored | {packed} |"


if __name__ == "__main__":
    main()
