"""The page of one evaluation, from its summary."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chiaroscuro.choices import EDIT_MAPS
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.report.charts import fill_title, images_text, is_natural
from chiaroscuro.report.pages import data_uri, environment
from chiaroscuro.report.promises import promise_sentences, promise_tables

_CLASSES = 50
_SURE = 0.05


@dataclass(frozen=True, eq=False)
class Example:
    """One image of the gallery: pixels (H, W, 3), maps by name, and edits by what came of them."""

    id: str
    label: str | None
    predicted: str
    pixels: Rgb
    maps: Sequence[tuple[str, Rgb]]
    edits: Sequence[tuple[str, Rgb]]


def evaluation_page(
    summary: Mapping[str, Any],
    charts: Sequence[tuple[str, str]],
    examples: Sequence[Example],
    promises: Sequence[tuple[str, str]] = (),
    sanity: str = "",
) -> str:
    """One evaluation as a page that needs no other file and no network.

    `charts` and `promises`, those of what-ifs, are captions with SVG text; `summary` is what
    `summary.json` holds; `sanity` is the section that `check_section` makes.
    """
    columns = _class_columns(summary)
    shown = sorted(summary["classes"], key=lambda row: -row["images"])[:_CLASSES]
    template = environment().get_template("evaluation.html.j2")
    return template.render(
        summary=summary,
        images=images_text(summary["data"]["images"]),
        charts=_drawn(charts),
        outcome=list(outcome(summary)),
        promises=_drawn(promises),
        promised=list(promise_sentences(summary)),
        promise_tables=promise_tables(summary),
        areas=[_areas(summary, protocol) for protocol in summary["choices"]["protocols"]],
        differences=_differences(summary),
        class_columns=columns,
        classes=[_class_row(row, columns) for row in shown],
        examples=[_pictures(example) for example in examples],
        details=list(_details(summary)),
        sure=_SURE,
        sanity=sanity,
    )


def _drawn(charts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Captions with pictures in data addresses."""
    return [
        (caption, f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}")
        for caption, svg in charts
    ]


def outcome(summary: Mapping[str, Any]) -> Sequence[str]:
    """What was found, in sentences: the lowest area of each fill, and `original` against chance."""
    protocol = _fairest(summary)
    found = []
    for fill in summary["choices"]["fills"]:
        rows = [
            row
            for row in summary["curves"]
            if (row["protocol"], row["fill"]) == (protocol, fill) and not row["control"]
        ]
        if not rows:
            continue
        best = min(rows, key=lambda row: row["area"]["value"])
        found.append(
            f"{fill_title(fill)} ({protocol}): {best['map']} has the lowest area, "
            f"{interval_text(best['area'])}{_equals(summary, best)}.{_made_for(rows, best)}"
            f"{_against_random(summary, protocol, fill)}"
        )
    if found and protocol != "matched":
        found.append(
            "Sparse maps change fewer pixels in this protocol, and no random order was measured: "
            "evaluate with the matched protocol to rank maps."
        )
    return found or ["Nothing was measured: no image could be used."]


def _made_for(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    """That an edit map wins the score it is made for, and what is lowest among the other maps."""
    others = [row for row in rows if row["map"] not in EDIT_MAPS]
    if best["map"] not in EDIT_MAPS:
        return ""
    told = " It is made for this very edit, so this score alone does not make it a better map."
    if not others:
        return told
    next_ = min(others, key=lambda row: float(row["area"]["value"]))
    return f"{told} Of the maps that know no edit, {next_['map']} is lowest, " + (
        f"{interval_text(next_['area'])}."
    )


def _fairest(summary: Mapping[str, Any]) -> str:
    """The protocol to rank maps by: `matched`, where it was run."""
    protocols = summary["choices"]["protocols"]
    return "matched" if "matched" in protocols else str(protocols[0])


def _equals(summary: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Which maps the lowest one cannot be told from."""
    where = (best["protocol"], best["fill"])
    close = [
        row["against"] if row["map"] == best["map"] else row["map"]
        for row in summary["differences"]
        if (row["protocol"], row["fill"]) == where
        and best["map"] in (row["map"], row["against"])
        and row["p_holm"] >= _SURE
    ]
    return f" (not told apart from {', '.join(close)})" if close else ""


def interval_text(found: Mapping[str, float], digits: int = 3) -> str:
    """A value with its interval: 0.123 [0.110, 0.136]."""
    value, low, high = (f"{found[end]:.{digits}f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _against_random(summary: Mapping[str, Any], protocol: str, fill: str) -> str:
    for row in summary["differences"]:
        if (row["protocol"], row["fill"], row["map"], row["against"]) == (
            protocol, fill, "original", "random",
        ):  # fmt: skip
            value, low, high = (float(row[end]) for end in ("difference", "low", "high"))
            if row["p_holm"] >= _SURE:
                size = f"difference {value:+.3f} [{low:+.3f}, {high:+.3f}]"
                return f" original cannot be told from a random order ({size})."
            word = "lower (better)" if value < 0 else "higher (worse)"
            low, high = (-high, -low) if value < 0 else (low, high)
            size = f"{abs(value):.3f} [{low:.3f}, {high:.3f}]"
            return f" original is {word} than a random order by {size}."
    return ""


def _areas(summary: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    """One protocol's table: maps as rows, fills as columns, controls apart, the lowest marked."""
    fills = summary["choices"]["fills"]
    cells = {
        (row["map"], row["fill"]): row for row in summary["curves"] if row["protocol"] == protocol
    }
    names = list(dict.fromkeys(name for name, _ in cells))
    controls = [n for n in names if any(cells[n, f]["control"] for f in fills if (n, f) in cells)]
    maps = [name for name in names if name not in controls]
    lowest = {
        fill: min((cells[n, fill]["area"]["value"] for n in maps if (n, fill) in cells), default=0)
        for fill in fills
    }
    return {
        "protocol": protocol,
        "fills": [(fill, fill_title(fill)) for fill in fills],
        "groups": [group for group in (("maps", maps), ("controls", controls)) if group[1]],
        "cells": {
            key: {
                "area": interval_text(row["area"]),
                "by_range": f"{row['area_by_range']['value']:.3f}",
                "changed": f"{100 * row['changed'][-1]:.0f} %",
                "lowest": row["area"]["value"] == lowest[key[1]] and not row["control"],
                "natural": is_natural(*key),
            }
            for key, row in cells.items()
        },
    }


def _differences(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The pairs by protocol and fill; those of the protocol to rank by come first, and open."""
    first = _fairest(summary)
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in sorted(summary["differences"], key=lambda row: bool(row["protocol"] != first)):
        better = row["map"] if row["difference"] < 0 else row["against"]
        found = {**row, "better": better if row["p_holm"] < _SURE else ""}
        groups.setdefault((row["protocol"], row["fill"]), []).append(found)
    return [
        {"title": f"{protocol}, {fill_title(fill)}", "open": protocol == first, "rows": rows}
        for (protocol, fill), rows in groups.items()
    ]


def _class_columns(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The areas that a class's row shows: each fill's own maps, in the protocol to rank by."""
    protocol = _fairest(summary)
    return [
        (protocol, row["map"], row["fill"])
        for row in summary["curves"]
        if row["protocol"] == protocol
        and not row["control"]
        and is_natural(row["map"], row["fill"])
    ]


def _class_row(
    row: Mapping[str, Any], columns: Sequence[tuple[str, str, str]]
) -> tuple[str, str, str, list[str]]:
    """A class's name, images, accuracy and areas, as written."""
    areas = {(a["protocol"], a["map"], a["fill"]): f"{a['area']:.3f}" for a in row["areas"]}
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    return row["class"], f"{row['images']:,}", accuracy, [areas.get(key, "") for key in columns]


def _pictures(example: Example) -> Mapping[str, Any]:
    return {
        "about": example,
        "pixels": data_uri(example.pixels),
        "maps": [(name, data_uri(picture)) for name, picture in example.maps],
        "edits": [(caption, data_uri(picture)) for caption, picture in example.edits],
    }


def _details(summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """What it takes to make this again, as rows."""
    model = summary["model"]
    rows = [
        ("model", model["name"]),
        ("model sha256", model.get("sha256")),
        *((f"model {k}", v) for k, v in model["origin"].items() if not isinstance(v, Mapping)),
        ("normalization", f"mean {model['mean']}, std {model['std']}, inside the model"),
        *((key.replace("_", " "), value) for key, value in summary["choices"].items()),
        ("versions", ", ".join(f"{name} {found}" for name, found in summary["versions"].items())),
    ]
    return [(name, _plain(value)) for name, value in rows if value not in (None, "", [])]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
