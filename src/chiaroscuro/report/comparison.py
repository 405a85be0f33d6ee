"""The page of a comparison, from its figure's contents and its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from chiaroscuro.render.colors import Rgb
from chiaroscuro.render.sides import SidesSheet
from chiaroscuro.report.pages import data_uri, environment


def comparison_page(
    sheet: SidesSheet, about: Mapping[str, Any], pictures: Sequence[Rgb | None]
) -> str:
    """One comparison as a page; it leads to the explanations in the folders beside it.

    `pictures` belong to the entries of `about["beside"]`.
    """
    rows = [
        (
            row.name,
            None if row.seen is None else data_uri(row.seen),
            row.bars,
            [data_uri(picture) for picture in row.pictures],
            list(row.notes),
        )
        for row in sheet.rows
    ]
    beside = [
        (one, None if picture is None else data_uri(picture))
        for one, picture in zip(about["beside"], pictures, strict=True)
    ]
    template = environment().get_template("comparison.html.j2")
    return template.render(sheet=sheet, about=about, rows=rows, beside=beside)
