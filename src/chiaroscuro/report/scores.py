"""Which map wins an evaluation, by how much, and whether significantly."""

from collections.abc import Sequence

from chiaroscuro.choices import CURVES, FITTED_MAPS, SURE, parse_fill
from chiaroscuro.report.pages import interval_text
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Curve, Difference, Evaluation, Gain


def best_maps(result: Evaluation) -> str:
    """Which map wins under each fill, by how much, and whether significantly, in a few words."""
    protocol, best = best_protocol(result), []
    for fill in result.settings.fills:
        rows = [row for row in curves_of(result, protocol, fill) if not row.control]
        if gains := gains_of(result, fill):
            best.append(_winner(result, gains))
        elif rows:
            lowest = min(rows, key=lambda row: row.area.value)
            close = close_to(result, lowest)
            sure = f"but not significantly before {close}" if close else "significantly"
            best.append(f"Under {fill_title(fill)}, {lowest.map} has the lowest area, {sure}.")
    if not best:
        return "Deletion was not measured; the other metrics are below."
    return " ".join(best)


def _winner(result: Evaluation, gains: Sequence[Gain]) -> str:
    """The map with the highest gain under a fill, its lead, and what other curves say."""
    first, *others = sorted(gains, key=_size, reverse=True)
    under = f"Under {fill_title(first.fill)}, "
    if first.p_holm >= SURE or first.gain.value <= 0:
        return f"{under}no map wins: none gains significantly over its inverted order."
    said = f"{under}{first.map} wins: its relevance gain is {interval_text(first.gain)}"
    if others:
        pair = _pair(result, first, others[0])
        less = pair.difference
        lead = less if pair.map == first.map else Interval(-less.value, -less.high, -less.low)
        close = [row.map for row in others if _pair(result, first, row).p_holm >= SURE]
        sure = f"but not significantly more than {', '.join(close)}" if close else "significantly"
        said += f", {interval_text(lead)} more than that of {others[0].map}, {sure}"
        said += f" (p = {pair.p_holm:.2g})"
    said += "." if first.map not in FITTED_MAPS else ". It is fitted to this very edit."
    best = {of: max(gains_of(result, first.fill, of), key=_size).map for of in CURVES}
    other = " and ".join(f"{name} by {of}" for of, name in best.items() if name != first.map)
    return f"{said} The highest is {other}." if other else said


def _size(row: Gain) -> float:
    return row.gain.value


def gains_of(result: Evaluation, fill: str, of: str = CURVES[0]) -> list[Gain]:
    """The gains of all maps under a fill."""
    return [row for row in result.gains if (row.fill, row.of) == (fill, of)]


def _pair(result: Evaluation, gain: Gain, other: Gain) -> Difference:
    """The comparison of two maps' gains."""
    return next(
        row
        for row in pairs(result, "gain", gain.of)
        if row.fill == gain.fill and {row.map, row.against} == {gain.map, other.map}
    )


def pairs(result: Evaluation, score: str, of: str) -> list[Difference]:
    """The pairs of maps by one score, whose p-values are corrected together."""
    return [row for row in result.differences if (row.score, row.of) == (score, of)]


def best_protocol(result: Evaluation) -> str:
    """The protocol to rank maps by: `matched`, where it was run."""
    protocols = result.settings.protocols
    return "matched" if "matched" in protocols else protocols[0]


def curves_of(result: Evaluation, protocol: str, fill: str) -> list[Curve]:
    """The curves of all maps and controls."""
    return [row for row in result.curves if (row.protocol, row.fill) == (protocol, fill)]


def close_to(result: Evaluation, best: Curve) -> str:
    """The maps that the lowest one does not differ from significantly."""
    close = [
        row.against if row.map == best.map else row.map
        for row in pairs(result, "area", CURVES[0])
        if (row.protocol, row.fill) == (best.protocol, best.fill)
        and best.map in (row.map, row.against)
        and row.p_holm >= SURE
    ]
    return ", ".join(close)


def fill_title(fill: str) -> str:
    """What happens to the pixels, in words that suit a heading.

    >>> fill_title("black"), fill_title("brighter:0.1")
    ('black-deletion', 'pixels brighter by 0.1')
    """
    parsed = parse_fill(fill)
    changed = parsed.name in ("brighter", "darker")
    return f"pixels {parsed.name} by {parsed.amount:g}" if changed else f"{fill}-deletion"
