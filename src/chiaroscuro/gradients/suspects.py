"""Which module a foreign method failed at: a network is watched while it runs."""

import re
from collections import Counter
from types import TracebackType
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.errors import ModelError

_ONLY_SHAPE = {
    "__get__", "size", "dim", "flatten", "view", "reshape", "permute", "transpose", "contiguous",
    "clone", "detach", "squeeze", "unsqueeze", "to", "expand", "register_hook", "__len__",
}  # fmt: skip


class Suspects(TorchFunctionMode):
    """Inside, calls of a network's modules are counted, and those of functions outside its leaves.

    `outside` lists (module, function) of every call that a module with parts made by itself.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {part: name or "the network itself" for name, part in module.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.last: nn.Module | None = None
        self.outside: list[tuple[nn.Module, str]] = []
        self._open: list[nn.Module] = []

    def __enter__(self) -> "Suspects":
        hooks = nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter_module),
            hooks.register_module_forward_hook(self._leave_module, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def _enter_module(self, module: nn.Module, _: object) -> None:
        if module in self.names:
            self.calls[module] += 1
            self.last = module
            self._open.append(module)

    def _leave_module(self, module: nn.Module, *_: object) -> None:
        if module in self.names and self._open:
            self._open.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        inner = self._open[-1] if self._open else None
        if inner is not None and name not in _ONLY_SHAPE and next(inner.children(), None):
            self.outside.append((inner, name.strip("_")))
        return func(*args, **(kwargs or {}))

    def title(self, module: nn.Module) -> str:
        """A module's place in the network and its type."""
        return f"{self.names[module]} ({type(module).__name__})"

    def outside_call(self, *names: str) -> str | None:
        """Where the network first calls a function (one of `names`) that belongs to no leaf."""
        for module, name in self.outside:
            if not names or name in names:
                return f"{self.title(module)}, which calls {name} itself"
        return None

    def named_by(self, error: BaseException) -> str:
        """The module that an error is about: by its type, by its form, or the last one called."""
        texts = [str(link) for link in _chain(error)]
        kinds = [found for text in texts for found in re.findall(r"<class '([\w.]+)'>", text)]
        for part in self.names:
            if f"{type(part).__module__}.{type(part).__qualname__}" in kinds:
                return self.title(part)
        passes = self.calls[next(iter(self.names))] or 1
        shown = [p for p in self.names if any(f"odule {p!r} " in text for text in texts)]
        reused = [part for part in shown if self.calls[part] > passes]
        if reused:
            return f"{self.title(reused[0])}, used {self.calls[reused[0]] // passes} times"
        if shown or self.last is None:
            return self.title(shown[0]) if shown else "a module that it does not name"
        return f"{self.title(self.last)}, the last one called"


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and, where `Classifier.logits` wrapped it, what caused it."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ if isinstance(error, ModelError) else None
    return found
