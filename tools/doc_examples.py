"""Code fences around the examples of docstrings, for the reference pages.

Markdown reads a bare `>>>` as a quotation; mkdocs.yml loads this extension of Griffe.
"""

from typing import Any

import griffe


class CodeExamples(griffe.Extension):  # type: ignore[misc]
    """Fences each example of each docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace the docstring's text before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with a fence around every block that starts with `>>>` and ends at a blank line."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.startswith(">>> "):
            inside = True
            lines.append("```python")
        elif inside and not line.strip():
            inside = False
            lines.append("```")
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)
