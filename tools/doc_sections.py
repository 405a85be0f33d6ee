"""Sections of the reference, from docstrings as they are: an extension of Griffe for mkdocs.yml.

A docstring is prose that says "`name`: meaning", "Raises `Error` when ..." and ends with examples.
Its parameters, attributes, return value and errors become tables; types come from the signature.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

import griffe

COMMON = {
    "amount": "How much, where the fill takes an amount.",
    "argmax": "Also keep which rival is at the extremes.",
    "args": "Positional arguments of the network.",
    "ax": "Matplotlib axes of your own.",
    "axes": "Matplotlib axes of your own.",
    "baseline": "Where the line begins.",
    "by_range": "Divide by the range of the fractions.",
    "choices": "Every choice that decides the numbers.",
    "classes": "The classes that are run; all of them by default.",
    "classifier": "The network, with its normalization and class names.",
    "classifiers": "Two networks or more.",
    "crop": "The part of the photo that the network saw.",
    "data": "An image set, as `load_images` takes it.",
    "data_root": "A folder that holds data sets by name.",
    "device": "Where the network is trained.",
    "explained": "An explanation, as `explain` returns it.",
    "explanations": "One explanation a network.",
    "facts": "Smallest and largest value and support of each map.",
    "fill": "What changed pixels become, as in `--fill`.",
    "first": "Maps (B, H, W).",
    "fit": "How a photo is sized: crop, pad or stretch; by default as the network's own.",
    "folder": "The folder that is read or written.",
    "fraction": "The share of pixels to change.",
    "fractions": "The shares of pixels that are filled.",
    "gradients": "Gradients with respect to the pixels.",
    "image": "A photo: a path, a Pillow image, an array or a tensor.",
    "images": "Images (B, C, H, W) in [0, 1].",
    "index": "The index of a class.",
    "kind": "What kind of result is expected; None: any.",
    "kwargs": "Keyword arguments of the network.",
    "layers": "The randomized layers.",
    "loads": "What it loads.",
    "logits": "Logits (B, K).",
    "in_gray": "Show the photo in gray.",
    "map": "A map by name.",
    "maps": "Maps by name.",
    "memory_budget": "Bytes that may be used above the loaded model.",
    "method": "The gradient method, as in `class_gradients`.",
    "mode": "Has no effect: the network stays in eval mode.",
    "model": "What is known about the network.",
    "module": "The network, an `nn.Module`.",
    "name": "Its name.",
    "names": "The maps to compute; by default the paper's five.",
    "normalize": '"none", or "minmax" to scale each image to [0, 1].',
    "notes": "What is unusual.",
    "offline": "Whether it needs no connection.",
    "options": "Fields of the settings, by name.",
    "out": "The folder of the result.",
    "opacity": "How much the map covers the photo.",
    "over": "Over the photo; else the map alone.",
    "overwrite": "Replace an existing result of the same kind.",
    "package": "The package that it needs.",
    "percentiles": "The percentiles of ROAD.",
    "picture": "A photo: a path, a Pillow image, an array or a tensor.",
    "pictures": "One photo or several.",
    "pixels": "Images (B, C, H, W) in [0, 1].",
    "points": "The sample points.",
    "processor": "The image processor of the network.",
    "progress": "Called as the work proceeds.",
    "protocol": '"paper" or "matched".',
    "reads": "Which gradients it reads.",
    "reduce": 'How channels become one value: "max", or "none" to keep them.',
    "reducer": "What to keep of the gradients.",
    "regions": "Boxes or masks; for tensors (B, H, W) of booleans.",
    "resume": "Continue an interrupted run.",
    "rivals": "The competing classes, as in `class_gradients`.",
    "score": "What is differentiated.",
    "second": "Other maps (B, H, W).",
    "seed": "Decides what is random.",
    "settings": "All settings in one object.",
    "share": "The share of the pixels that counts as the top.",
    "sigma": "Standard deviation of the noise.",
    "smoothing": "Standard deviation in pixels of the map; None: as in the figure.",
    "spec": "The name of a network, or its path.",
    "steps": "The shares of the change that are looked at.",
    "table": "Which table of the result.",
    "target": "The class that is explained; None: the predicted class.",
    "targets": "Targets of pytorch-grad-cam, or class indices.",
    "threads": "CPU threads of the computation.",
    "tolerance": "How far two values may differ and still agree.",
    "top": "The share of the highest pixels that is shown.",
    "values": "Maps (B, H, W).",
    "versions": "Versions of Python and the libraries.",
    "watcher": "Called after each step and epoch.",
    "weights": "The weights' entry, with its transforms and class names.",
    "workers": "Processes that share the images.",
}
"""What a name means wherever a docstring does not say it."""
FIELDS = COMMON | {
    "data": "What is known about the image set.",
    "image": "What is known about the photo's file.",
    "settings": "The settings that decided the numbers.",
    "target": "The class that is explained.",
}
"""The same for the fields of a result."""


class Sections(griffe.Extension):  # type: ignore[misc]
    """Rewrites the docstrings of a package in the form of sections."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Once everything is loaded, so that a return type can be looked up."""
        found = list(_objects(pkg))
        said = {
            each.name: _first(each.docstring.value)
            for each in found
            if each.is_class and each.docstring
        }
        numbers = dict(_numbers(pkg["choices"].filepath.read_text("utf-8")))
        for each in found:
            for parameter in each.parameters if each.is_function else []:
                name = str(parameter.default).rpartition(".")[2]
                parameter.default = numbers.get(name, parameter.default)
            if each.docstring is not None:
                each.docstring.value = sectioned(each, said)


def sectioned(what: griffe.Object, classes: dict[str, str]) -> str:
    """The docstring with sections; `classes` are the first sentences of the package's classes."""
    text, examples = _without_examples(what.docstring.value)
    prose, raised = _without_raises(text)
    parts = [prose]
    if what.is_function:
        parts += _section("Args", _parameters(what, prose))
        if what.returns is not None and str(what.returns) != "None":
            named = re.findall(r"\w+", str(what.returns))
            (said,) = [*[classes[n] for n in named if n in classes], _first(text)][:1]
            parts += _section("Returns", [said])
    elif what.is_class and "__init__" in what.members:
        parts += _section("Args", _parameters(what.members["__init__"], prose))
    elif what.is_class and "dataclass" in _decorators(what):
        fields = [
            m
            for m in what.members.values()
            if m.is_attribute and not m.docstring and m.name[0] != "_"
        ]
        parts += _section("Attributes", _described([m.name for m in fields], prose, FIELDS))
    if raised:
        parts += _section("Raises", _errors(raised, classes))
    if examples:
        parts += _section("Examples", [examples])
    return "\n\n".join(parts)


def _numbers(source: str) -> Iterator[tuple[str, str]]:
    """The constants of a module that are numbers, alone or several in a line."""
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign):
            names = getattr(line.targets[0], "elts", line.targets)
            for name, value in zip(names, getattr(line.value, "elts", [line.value]), strict=False):
                if isinstance(getattr(value, "value", None), int | float):
                    yield ast.unparse(name), ast.unparse(value)


def _objects(package: griffe.Object) -> Iterator[griffe.Object]:
    for member in package.members.values():
        if not member.is_alias:
            yield member
            if member.is_module or member.is_class:
                yield from _objects(member)


def _without_examples(text: str) -> tuple[str, str]:
    prose, start, examples = text.partition("\n>>> ")
    return prose.strip(), (start + examples).strip()


def _without_raises(text: str) -> tuple[str, str]:
    match = re.search(r"\bRaises (`\w+`.*?)\.(?=\s+Source\b|\n\n|\s*\Z)", text, re.DOTALL)
    if match is None:
        return text, ""
    return (text[: match.start()] + text[match.end() :].lstrip(" ")).strip(), match[1]


def _errors(words: str, classes: dict[str, str]) -> list[str]:
    names = re.findall(r"`(\w+(?:Error|Exception))`", words)
    reasons = re.split(r"`\w+(?:Error|Exception)`", " ".join(words.split()))[1:]
    reasons = [re.sub(r"^(?:[,; ]|or |and )+|(?:[,; ]| or| and)+$", "", r) for r in reasons]
    for place in range(len(reasons) - 2, -1, -1):
        if not reasons[place] and not reasons[place + 1].startswith("("):
            reasons[place] = reasons[place + 1]
    return [
        f"{name}: {_sentence(reason.strip('()') or classes.get(name, ''))}"
        for name, reason in zip(names, reasons, strict=True)
    ]


def _parameters(function: griffe.Function, prose: str) -> list[str]:
    names = [p.name for p in function.parameters if p.name not in ("self", "cls")]
    described = _described(names, prose)
    for kind in re.findall(r"\btakes\((\w+)\)", _decorators(function)):
        more = f" They are those of [`{kind}`][chiaroscuro.{kind}]."
        described = [d + more if d.startswith("options:") else d for d in described]
    return [d.replace("options:", "**options:", 1) for d in described]


def _decorators(what: griffe.Object) -> str:
    return " ".join(str(each.value) for each in what.decorators)


def _described(names: list[str], prose: str, rest: dict[str, str] = COMMON) -> list[str]:
    """Each name with the first sentence that is about it."""
    sentences = re.split(r"(?<=[.:])\s+(?=[A-Z`\"])|(?<=;)\s+(?=`)", " ".join(prose.split()))
    lines = []
    for name in names:
        about = [s for s in _joined(sentences) if f"`{name}`" in s]
        about.sort(key=lambda s, name=name: not s.startswith(f"`{name}`"))  # type: ignore[misc]
        words = about[0].removeprefix(f"`{name}`: ") if about else rest.get(name, "")
        lines.append(f"{name}: {_sentence(words)}")
    return lines


def _joined(sentences: list[str]) -> Iterator[str]:
    """Pieces that end in a colon go with the next one."""
    kept = ""
    for sentence in sentences:
        kept = f"{kept} {sentence}".strip()
        if not kept.endswith(":"):
            yield kept
            kept = ""
    if kept:
        yield kept


def _sentence(words: str) -> str:
    words = words.rstrip(";,. ")
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:\n{_indented(chr(10).join(lines))}"] if lines else []


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))
