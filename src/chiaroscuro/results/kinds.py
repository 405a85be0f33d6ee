"""Every kind of result that is saved: what marks its folder, what it is, and what shows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

FIGURE, PAGE = "figure.png", "index.html"
"""The figure of a result that has one, and its page."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of result: the dataclass and what writes its pictures and page, as MODULE:NAME.

    `shares_folder`: its folder also holds what is not part of the result.
    """

    name: str
    type: str = ""
    view: str = ""
    version: int = 1
    shares_folder: bool = False

    @property
    def marker(self) -> str:
        """The file that marks a folder."""
        return f"chiaroscuro-{self.name}.json"

    @property
    def schema(self) -> str:
        """What the marker says under "schema"."""
        return f"chiaroscuro-{self.name}/{self.version}"

    def draw(self, result: Any, folder: Path, **more: Any) -> Iterable[str] | None:
        """Write pictures and page, where it has any; their names, where the folder is shared."""
        view = imported(self.view) if self.view else lambda *_: None
        names: Iterable[str] | None = view(result, folder, **more)
        return names


def imported(place: str) -> Any:
    """What MODULE:NAME stands for."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


_IMAGE, _SET = "chiaroscuro.results.explanations", "chiaroscuro.results.measurements"
_CHANGES = "chiaroscuro.results.changes"
_MODELS, _REPORT = "chiaroscuro.results.models", "chiaroscuro.report"
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("model", f"{_MODELS}:SavedModel"),
        Kind("training"),
        Kind("probe", f"{_MODELS}:ProbedTraining", f"{_REPORT}.probe:write"),
        Kind("explanation", f"{_IMAGE}:Explanation", f"{_REPORT}.explanation:write"),
        Kind("what-if", f"{_CHANGES}:WhatIf", f"{_REPORT}.what_if:write"),
        Kind("smallest-edit", f"{_CHANGES}:SmallestEdit", f"{_REPORT}.smallest:write"),
        Kind("comparison", f"{_IMAGE}:Comparison", f"{_REPORT}.explanation:write_comparison"),
        Kind("gallery", f"{_IMAGE}:Gallery", f"{_REPORT}.explanation:write_gallery", 1, True),
        Kind("evaluation", f"{_SET}:Evaluation", f"{_REPORT}.evaluation:write"),
        Kind("check", f"{_SET}:SanityCheck", f"{_REPORT}.checks:write"),
        Kind("localization", f"{_SET}:Localization", f"{_REPORT}.checks:write_localization"),
        Kind(
            "confusions", "chiaroscuro.results.confusions:Confusions", f"{_REPORT}.confusions:write"
        ),
        Kind("map-export", "chiaroscuro.results.maps:MapExport", "chiaroscuro.results.maps:write"),
        Kind("reproduction", f"{_SET}:Reproduction", f"{_REPORT}.paper:write"),
    )
}
"""Every kind by name."""
