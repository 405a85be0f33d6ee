"""The page of a localization."""

from collections.abc import Iterator
from pathlib import Path

from chiaroscuro.report.pages import write_page
from chiaroscuro.report.runs import SURE, details, images_text, interval_text
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Localization, LocatedMap


def write(result: Localization, folder: Path) -> None:
    """Write the page, which needs no other file."""
    chance = result.maps[0]
    write_page(
        folder,
        "localization.html.j2",
        result=result,
        images=images_text(result.data.images),
        rows=[
            (
                located.map,
                interval_text(located.hit),
                hit_words(located),
                interval_text(located.energy),
                energy_words(located),
            )
            for located in result.maps
        ],
        controls=[
            (
                "a random order",
                interval_text(chance.chance_hit),
                interval_text(chance.chance_energy),
            ),
            ("the middle pixel", interval_text(chance.center_hit), ""),
        ],
        details=details(result),
    )


def lines(result: Localization) -> Iterator[str]:
    """What a terminal shows: images, and both measures of every map and of a random order."""
    data, chance = result.data, result.maps[0]
    left_out = f", {data.left_out_count} left out" if data.left_out_count else ""
    yield f"{images_text(data.images)} of {data.name}{left_out}"
    for located in result.maps:
        hit, energy = interval_text(located.hit), interval_text(located.energy)
        yield (
            f"{located.map}: hit {hit} ({hit_words(located)}), energy {energy} "
            f"({energy_words(located)})"
        )
    hit, energy = interval_text(chance.chance_hit), interval_text(chance.chance_energy)
    center = interval_text(chance.center_hit)
    yield f"random order: hit {hit}, energy {energy}; middle pixel: hit {center}"


def hit_words(located: LocatedMap) -> str:
    """Whether a map's highest pixel does better than a random one."""
    return _against_chance(located.hit, located.chance_hit, located.hit_p)


def energy_words(located: LocatedMap) -> str:
    """Whether a map's energy inside is more than a random order's."""
    return _against_chance(located.energy, located.chance_energy, located.energy_p)


def _against_chance(mean: Interval, chance: Interval, p: float) -> str:
    if p >= SURE:
        return "as a random order"
    return "better than random" if mean.value > chance.value else "worse than random"
