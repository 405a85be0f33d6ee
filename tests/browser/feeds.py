"""Small feeds with known numbers, and pages that show them."""

import base64
import io
import json
import zlib
from dataclasses import replace

import numpy as np
from PIL import Image

from chiaroscuro.images.framing import LUMA
from chiaroscuro.render import pictures
from chiaroscuro.results.facts import CropBox
from chiaroscuro.viewer import Feed, script, style
from chiaroscuro.viewer.feed import (
    OTHER,
    TIE,
    FeedClass,
    FeedColors,
    FeedMap,
    FeedPhoto,
    FeedPrediction,
    FeedTarget,
    value_codes,
)

WIDTH, HEIGHT = 80, 60
CROP = CropBox(20, 10, 60, 50, WIDTH, HEIGHT)
SIDE = 8
"""The map is 8 x 8, so that each of its pixels covers 5 x 5 of the photo."""
COLORS = FeedColors(
    pictures.RAMPS, pictures.HUES, pictures.ZERO, pictures.OTHER_CLASS, pictures.GRAY, LUMA
)


def photo_pixels():
    """A photo (H, W, 3) without two like pixels next to each other."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([3 * x, 4 * y, (x * y) % 256], -1).astype(np.uint8)


def signed_values(side=SIDE):
    """Values of both signs, all magnitudes different, and a zero."""
    order = np.random.default_rng(3).permutation(side * side)
    signs = np.where(order % 2 == 0, 1.0, -1.0)
    return (signs * order / 1000).reshape(side, side)


def one_map(name, values, kind="signed", helps="either", reads="what it says"):
    codes, peak = value_codes(np.asarray(values))
    return packed(name, codes, kind, helps, peak, reads)


def packed(name, codes, kind, helps="either", peak=0.0, reads="the class", classes=()):
    data = base64.b64encode(zlib.compress(codes.tobytes())).decode()
    return FeedMap(name, reads, kind, helps, codes.shape[1], codes.shape[0], peak, data, classes)


def winner_map():
    """Rows of classes 0, 1, a class without a color, and ties."""
    codes = np.repeat([0, 0, 0, 1, 1, OTHER, TIE, TIE], SIDE).reshape(SIDE, SIDE).astype("<u2")
    classes = (
        FeedClass(7, "cat", pictures.CLASS_COLORS[0]),
        FeedClass(9, "dog", pictures.CLASS_COLORS[1]),
    )
    return packed("winner", codes, "class", classes=classes)


def make_target(name="cat · 90 %", label="cat", seed=0, crop=CROP):
    values = np.roll(signed_values(), seed, axis=0)
    return FeedTarget(
        name,
        label,
        4,
        crop,
        1.0,
        (FeedPrediction(7, "cat", 0.9), FeedPrediction(9, "dog", 0.1)),
        (
            one_map("original", np.abs(values), "magnitude"),
            one_map("active", np.maximum(values, 0), "magnitude", "brighter"),
            one_map("signed", values),
            winner_map(),
        ),
    )


def small_feed(**changes):
    buffer = io.BytesIO()
    Image.fromarray(photo_pixels()).save(buffer, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    feed = Feed("cat.png", FeedPhoto(uri, WIDTH, HEIGHT), (make_target(),), COLORS, 1.0)
    return replace(feed, **changes)


PLAIN = ".cv { padding: 0; border: 0; }"
"""Without the frame the picture begins at the page's corner."""


def viewer_at(open_page, feed, state=None, box="width: 640px", css=PLAIN, **options):
    """A page whose script has the viewer's module as `viewer`, and its functions as `cv`."""
    page = open_page(
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>viewer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ margin: 0; }} {style()} {css}</style></head><body>
<main><h1 hidden>viewer</h1><div id="box" style="{box}"></div></main>
<script type="module">{script()}
window.cv = {{ mount, smooth, kthLargest, quantile, toQuery, fromQuery, widget: {{ render }} }};
window.events = [];
const box = document.getElementById("box");
box.addEventListener(CHANGE, (event) => events.push(event.detail));
window.viewer = mount(box, {feed.json()}, {json.dumps(state or {})});
</script></body></html>""",
        **options,
    )
    page.wait_for_function("window.viewer")
    page.evaluate("viewer.ready")
    settle(page)
    return page


def settle(page):
    """Wait until what was asked is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def canvas_pixels(page):
    """What the canvas shows (H, W, 4)."""
    settle(page)
    width, height, data = page.evaluate(
        """() => {
          const canvas = document.querySelector(".cv-stage canvas");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          let text = "";
          for (let i = 0; i < data.length; i += 8192) {
            text += String.fromCharCode(...data.subarray(i, i + 8192));
          }
          return [width, height, btoa(text)];
        }"""
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


def at_map(pixels, side=SIDE, crop=CROP):
    """The colors in the middles of the map's pixels (side, side, 3), at the first zoom."""
    scale = pixels.shape[1] / WIDTH
    x = (crop.left + (np.arange(side) + 0.5) * (crop.right - crop.left) / side) * scale
    y = (crop.top + (np.arange(side) + 0.5) * (crop.bottom - crop.top) / side) * scale
    return pixels[np.ix_(y.astype(int), x.astype(int))][..., :3]
