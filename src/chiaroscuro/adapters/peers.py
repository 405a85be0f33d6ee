"""Whether another library is there."""

from importlib.util import find_spec

from chiaroscuro.errors import missing_extra


def need(what: str, module: str, package: str) -> None:
    """Raise `MissingExtraError` unless the library is installed; it is not imported."""
    if find_spec(module) is None:
        raise missing_extra(what, package, "adapters")
