"""The picture of docs/how-to/regions.md, by its own snippet: `python -m tools.region_pictures`."""

import io
import re
from pathlib import Path
from typing import Any

from PIL import Image

from chiaroscuro import Explanation, Region, explain
from chiaroscuro.images import packaged_photo, to_uint8
from chiaroscuro.render.sheets import Bars, Picture, Row, Sheet, draw_sheet
from chiaroscuro.report.explanation import bars, map_panels, marked

DOCS = Path(__file__).parent.parent / "docs"
REGIONS = {"the cup": Region.box(165, 15, 420, 260), "the spoon": Region.box(320, 230, 410, 330)}
"""Parts of the photo of a coffee."""


def main() -> None:
    """Explain both parts with the network of the page, and write the picture."""
    page = (DOCS / "how-to" / "regions.md").read_text("utf-8")
    scope: dict[str, Any] = {}
    snippet = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    exec(snippet.partition("photo = ")[0], scope)
    rows = []
    for name, region in REGIONS.items():
        explanation = explain(
            scope["classifier"], packaged_photo("coffee"), region=region, rivals="top:10"
        )
        rows.append(_row(explanation, name))
    title = "One photo, two parts: what each of them looks like to the network, and why"
    sheet = Sheet([Row(cells, 2.4, [1.4, 1.5, 1.4, 1.4]) for cells in rows], title, width=12)
    picture = Image.open(io.BytesIO(draw_sheet(sheet, "png")[0])).convert("RGB")
    picture.save(DOCS / "images" / "regions.jpg", quality=88, optimize=True)


def _row(explanation: Explanation, name: str) -> list[Picture | Bars]:
    panels = {panel.name: panel for panel in map_panels(explanation)}
    shown = [panels[key] for key in ("active", "signed")]
    return [
        Picture(marked(explanation, to_uint8(explanation.pixels)), name),
        Bars(bars(explanation), "classes in the outlined part"),
        *(
            Picture(marked(explanation, panel.soft), f"{panel.name}, smoothed")
            for panel in shown
            if panel.soft is not None
        ),
    ]


if __name__ == "__main__":
    main()
