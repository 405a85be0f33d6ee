"""The page of a localization, from its summary."""

from collections.abc import Mapping
from typing import Any

from chiaroscuro.report.charts import images_text
from chiaroscuro.report.evaluation import interval_text
from chiaroscuro.report.pages import environment

_SURE = 0.05


def localization_page(summary: Mapping[str, Any]) -> str:
    """One localization as a page that needs no other file and no network."""
    chance = summary["maps"][0]
    return (
        environment()
        .get_template("localization.html.j2")
        .render(
            summary=summary,
            images=images_text(summary["data"]["images"]),
            rows=[_row(entry) for entry in summary["maps"]],
            controls=[
                ("a random order", interval_text(chance["chance_hit"]),
                 interval_text(chance["chance_energy"])),
                ("the middle pixel", interval_text(chance["center_hit"]), ""),
            ],
            details=_details(summary),
        )
    )  # fmt: skip


def against_chance(entry: Mapping[str, Any], measure: str) -> str:
    """Whether a map does better than a random order, in words."""
    if entry["p_holm"][measure] >= _SURE:
        return "as a random order"
    better = entry[measure]["value"] > entry[f"chance_{measure}"]["value"]
    return "better than random" if better else "worse than random"


def _row(entry: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    return (
        entry["map"],
        interval_text(entry["hit"]),
        against_chance(entry, "hit"),
        interval_text(entry["energy"]),
        against_chance(entry, "energy"),
    )


def _details(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it takes to make this again, as rows."""
    model = summary["model"]
    rows = [
        ("model", model["name"]),
        ("model sha256", model["sha256"]),
        *((key.replace("_", " "), value) for key, value in summary["choices"].items()),
        ("versions", ", ".join(f"{name} {found}" for name, found in summary["versions"].items())),
    ]
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in rows
        if value is not None
    ]
