"""Settings: frozen dataclasses whose fields say what they mean, may be, and are called in a shell.

A field's `Option` is written once; the check of its value, the library's signatures, the command
line and its reference are built from it.
"""

import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from chiaroscuro.choices.names import as_float, as_int, check_names
from chiaroscuro.errors import ChoiceError, unknown

_UNCHECKED: ContextVar[bool] = ContextVar("unchecked", default=False)


@dataclass(frozen=True, slots=True)
class Option:
    """What a field means and may be.

    `panel`: the heading that it stands under, "" for its class's own. `names`: the table that its
    names are from. `within`: an interval of numbers, such as "[0, 1)". `read`: what checks a value
    (of a tuple, each) and brings it to one form, in place of what the field's type asks. `flag`:
    the name in a shell where that is not the field's own, "" for a place without a name.
    """

    help: str
    panel: str = ""
    names: Collection[str] = ()
    within: str = ""
    read: Callable[[Any], Any] | None = None
    flag: str | None = None


def option(
    help: str,
    default: Any = MISSING,
    names: Collection[str] = (),
    *,
    panel: str = "",
    within: str = "",
    read: Callable[[Any], Any] | None = None,
    flag: str | None = None,
) -> Any:
    """A dataclass field with its `Option`; required without a default.

    Help that ends in ":" is followed by the names.
    """
    words = f"{help} {', '.join(names)}." if help.endswith(":") else help
    about = Option(words, panel, names, within, read, flag)
    return field(default=default, metadata={"option": about})


def like(cls: "type[Settings]", name: str, default: Any) -> Any:
    """A field of another class, with another default."""
    about = replace(option_of(cls.__dataclass_fields__[name]), panel=panel_of(cls, name))
    return field(default=default, metadata={"option": about})


def option_of(described: "Field[Any]") -> Option:
    """The `Option` of a field."""
    about = described.metadata["option"]
    assert isinstance(about, Option)
    return about


def panel_of(cls: "type[Settings]", name: str) -> str:
    """The heading of a field: its own, or that of the class that declares it."""
    home = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
    return option_of(cls.__dataclass_fields__[name]).panel or str(vars(home)["panel"])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The base: values are brought to one form and checked when an object is constructed.

    All wrong fields are reported by one `ChoiceError`. Numbers of NumPy and PyTorch, paths and
    lists become int, float, str and tuples. `panel` is the heading of the fields of a class.
    """

    panel: ClassVar[str] = "Options"

    def __post_init__(self) -> None:
        if _UNCHECKED.get():
            return
        kinds = get_type_hints(type(self))
        wrong = []
        for described in fields(self):
            name, about = described.name, option_of(described)
            try:
                value = _read(name, getattr(self, name), kinds[name], about)
                object.__setattr__(self, name, value)
            except ChoiceError as error:
                wrong.append(str(error))
        raise_together(wrong or self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        """What is wrong about fields together, checked once each is right; may set defaults."""
        return iter(())

    def plain(self) -> dict[str, Any]:
        """Every field as JSON keeps it: lists for tuples, a name for a method that is an object."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def raise_together(wrong: Iterable[str]) -> None:
    """Raise one `ChoiceError` for all that is wrong, if anything is."""
    if all_wrong := "; ".join(wrong):
        raise ChoiceError(all_wrong)


@contextmanager
def unchecked() -> Iterator[None]:
    """Take settings as they were saved, which may name objects that are not at hand."""
    before = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(before)


S = TypeVar("S", bound=Settings)
F = TypeVar("F", bound=Callable[..., Any])


def settings_from(cls: type[S], settings: S | None, options: Mapping[str, Any]) -> S:
    """The settings of a call: an object, keyword arguments, or an object with some replaced.

    Raises `ChoiceError` for an unknown name, with near ones, a missing field, or an object of
    another class.
    """
    known = {f.name: f for f in fields(cls)}
    for name in options:
        if name not in known:
            raise unknown("option", name, known)
    if settings is not None and not isinstance(settings, cls):
        kind = type(settings).__name__
        raise ChoiceError(f"settings are a {kind}: expected {cls.__name__}(...)")
    if settings is not None:
        return replace(settings, **options) if options else settings
    missing = [name for name, f in known.items() if f.default is MISSING and name not in options]
    if missing:
        raise ChoiceError(f"{', '.join(missing)}: give a value, as {missing[0]}=...")
    return cls(**options)


def takes(cls: type[Settings]) -> Callable[[F], F]:
    """Let a function that takes `**options` show the fields of `cls` in its place.

    `inspect.signature` and the docstring then list every field with its type, default and meaning.
    """

    def decorate(function: F) -> F:
        signature, kinds = inspect.signature(function), get_type_hints(cls)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        words = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n"
        for f in fields(cls):
            if f.name in signature.parameters:
                continue
            default = inspect.Parameter.empty if f.default is MISSING else f.default
            own.append(
                inspect.Parameter(
                    f.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=kinds[f.name],
                )
            )
            default_text = "" if f.default is MISSING else f" (default {f.default!r})"
            words += f"    {f.name}: {option_of(f).help}{default_text}\n"
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        function.__doc__ = words
        return function

    return decorate


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | None) else method_name(value)


def method_name(method: Any) -> str:
    """What a method is called in rows and figures: its name, or its type's."""
    if isinstance(method, str):
        return method
    return str(getattr(method, "name", type(method).__name__))


def _read(name: str, value: Any, kind: Any, about: Option) -> Any:
    """A value in the form of its type; raises `ChoiceError` for another, or one out of bounds."""
    if type(None) in get_args(kind):
        if value is None:
            return None
        kind = get_args(kind)[0]
    if get_origin(kind) is not tuple or Ellipsis not in get_args(kind):
        return about.read(value) if about.read else _read_one(name, value, kind, about)
    kind = get_args(kind)[0]
    single = isinstance(value, str) or not isinstance(value, Iterable)
    read = about.read or (lambda each: _read_one(name, each, kind, about))
    values = tuple(map(read, [value] if single else value))
    if not values:
        raise ChoiceError(f"no {name} are given: give at least one")
    return tuple(dict.fromkeys(values)) if kind is str else values


def _read_one(name: str, value: Any, kind: Any, about: Option) -> Any:
    if kind is int or kind is float:
        value = as_int(name, value) if kind is int else as_float(name, value)
        if about.within and not _is_inside(value, about.within):
            raise ChoiceError(f"{name} is {value}: expected {_bounds(about.within)}")
    elif kind is bool:
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        if not isinstance(value, bool):
            raise ChoiceError(f"{name} is {value!r}: expected True or False")
    elif kind is str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str):
            raise ChoiceError(f"{name} is {value!r}: expected a text")
    if about.names and (kind is not Any or isinstance(value, str)):
        check_names(about.flag or name, [value], about.names)
    return value


def _is_inside(value: float, within: str) -> bool:
    low, high = map(float, within[1:-1].split(","))
    above = value >= low if within[0] == "[" else value > low
    return above and (value <= high if within[-1] == "]" else value < high)


def _bounds(within: str) -> str:
    low, high = within[1:-1].split(", ")
    if float(high) < math.inf:
        return f"a number in {within}"
    return f"at least {low}" if within[0] == "[" else f"a number above {low}"
