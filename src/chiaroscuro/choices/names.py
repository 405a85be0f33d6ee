"""How a name is looked up in the table that knows it."""

from collections.abc import Iterable

from chiaroscuro.errors import unknown


def check_names(kind: str, names: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple without repeats; raises `ChoiceError` for an unknown one."""
    table = tuple(known)
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in chosen:
        if name not in table:
            raise unknown(kind, name, table)
    return chosen
