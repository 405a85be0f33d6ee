"""Every kind of result that is saved: what marks its folder, what it is, and what shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

FIGURE, PAGE = "figure.png", "index.html"
"""The figure of a result that has one, and its page."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of result.

    A folder is of this kind when its `marker` file names the `schema`. `type` and `view` are
    MODULE:NAME, imported when used: the dataclass that is saved, and the function that writes
    pictures and page of a result into its folder. `shares_folder`: the folder also holds what is
    not part of the result.
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

    def load_type(self) -> Any:
        """The dataclass."""
        return _imported(self.type)

    def load_view(self) -> Callable[[Any, Path], None]:
        """What writes the pictures and the page of a result into its folder."""
        write: Callable[[Any, Path], None] = _imported(self.view)
        return write

    def draw(self, result: Any, folder: Path) -> None:
        """Write the pictures and the page of a result into its folder, where it has any."""
        if self.view:
            self.load_view()(result, folder)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


_TYPES = "chiaroscuro.results.explanations"
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("model", "chiaroscuro.results.models:SavedModel"),
        Kind("training"),
        Kind("explanation", f"{_TYPES}:Explanation", "chiaroscuro.report.explanation:write"),
        Kind("what-if", f"{_TYPES}:WhatIf", "chiaroscuro.report.what_if:write"),
        Kind("comparison", f"{_TYPES}:Comparison", "chiaroscuro.report.comparison:write"),
        Kind(
            "gallery",
            f"{_TYPES}:Gallery",
            "chiaroscuro.report.explanation:write_gallery",
            shares_folder=True,
        ),
        Kind(
            "evaluation",
            "chiaroscuro.results.evaluation:Evaluation",
            "chiaroscuro.report.evaluation:write",
        ),
        Kind("check", "chiaroscuro.results.checks:SanityCheck", "chiaroscuro.report.sanity:write"),
        Kind(
            "localization",
            "chiaroscuro.results.checks:Localization",
            "chiaroscuro.report.localization:write",
        ),
        Kind(
            "reproduction",
            "chiaroscuro.results.reproduction:Reproduction",
            "chiaroscuro.report.paper:write",
        ),
    )
}
"""Every kind by name."""
