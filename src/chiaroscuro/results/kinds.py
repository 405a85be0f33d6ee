"""Every kind of result that is saved: what marks its folder, what it is, and what shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of result.

    A folder is of this kind when its `marker` file names the `schema`. `type` and `view` are
    MODULE:NAME, imported when used: the dataclass that is saved, and the function that writes
    pictures and page of a result into its folder.
    """

    name: str
    type: str = ""
    view: str = ""
    version: int = 1

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

    def draw(self, result: Any, folder: Path) -> None:
        """Write the pictures and the page of a result into its folder."""
        if self.view:
            write: Callable[[Any, Path], None] = _imported(self.view)
            write(result, folder)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (Kind("model", "chiaroscuro.results.models:SavedModel"),)
}
"""Every kind by name."""
