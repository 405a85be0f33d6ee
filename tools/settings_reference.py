"""The reference of settings: `python -m tools.settings_reference > docs/reference/settings.md`."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

import chiaroscuro
from chiaroscuro import settings

HEAD = """# Settings

This page lists every field of every settings object. A function takes such an object as `settings`, and single fields as keyword
arguments, which replace the object's. All fields are checked at once: one `ChoiceError` names everything that is wrong. Made by
`python -m tools.settings_reference > docs/reference/settings.md`.

```python
from chiaroscuro import EvaluationSettings

settings = EvaluationSettings(data="photos", maps=("active", "positive"), rivals="top:10")
print(settings.fills, settings.confidence)
```
"""  # noqa: E501
KINDS = {
    settings.ExplainSettings: "explain",
    settings.WhatIfSettings: "what_if",
    settings.SmallestEditSettings: "smallest_edit",
    settings.CompareSettings: "compare",
    settings.EvaluationSettings: "evaluate",
    settings.CheckSettings: "check",
    settings.LocalizationSettings: "localize",
    settings.ConfusionSettings: "confusions",
    settings.MapExportSettings: "export_maps",
    settings.TrainingSettings: "train",
    settings.ProbeSettings: "MapProbe",
}


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _section(kind))])


def _section(kind: type[settings.Settings]) -> Iterator[str]:
    place = "chiaroscuro" if hasattr(chiaroscuro, kind.__name__) else "chiaroscuro.settings"
    yield f"## {place}.{kind.__name__} {{#chiaroscuro.{kind.__name__}}}\n"
    yield f"{(kind.__doc__ or '').split(chr(10) * 2)[0]} Taken by `{KINDS[kind]}`.\n"
    yield "| field | meaning | type | default |\n|---|---|---|---|"
    for panel in settings.PANELS:
        yield from (_row(f) for f in fields(kind) if settings.option_of(f).panel == panel)
    yield ""


def _row(field: "Field[Any]") -> str:
    about = settings.option_of(field)
    kind = field.type.__name__ if type(field.type) is type else str(field.type)
    kind = re.sub(r"Optional\[(.*)\]$", r"\1 | None", kind.replace("typing.", ""))
    kind = kind.replace("|", "\\|")
    default = "required" if field.default is MISSING else f"`{field.default!r}`"
    meaning = about.help.replace("|", "\\|") + (f" In {about.within}." if about.within else "")
    return f"| `{field.name}` | {meaning} | {kind} | {default} |"


if __name__ == "__main__":
    print(reference(), end="")
