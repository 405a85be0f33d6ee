"""The one place that prepares a network for being asked, and leaves it as it was found."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.errors import ModelError


@contextmanager
def as_found(module: nn.Module, *, alone: bool = False) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before after, also on an error.

    Kept: the training flag of every submodule, `requires_grad` of every parameter, the buffers
    and their values, and the random state of Python, NumPy, the CPU and the module's CUDA devices.
    Flags are set one by one, so a module's own `train()` is not called.

    Threads may be inside at the same time, on one module or on modules that share parts: the first
    one in saves and sets what a part holds, the last one out restores it. `alone`: wait until no
    other thread is inside, and let no other in.
    Raises `ModelError` for parameters or buffers made inside `torch.inference_mode()`.
    """
    refuse_inference_tensors(module)
    held = _Held(module)
    with _CHANGES:
        _CHANGES.wait_for(lambda: held.is_free(alone=alone))
        held.enter(alone=alone)
    try:
        yield
    finally:
        with _CHANGES:
            held.leave(alone=alone)
            _CHANGES.notify_all()


@contextmanager
def alone_if_free(module: nn.Module) -> Iterator[bool]:
    """Whether no other thread uses any part of a module; while true, others wait to come in.

    For use inside `as_found`, by code that changes the module for a while.
    """
    held = _Held(module)
    with _CHANGES:
        free = held.is_free(alone=True)
        if free:
            held.enter(alone=True)
    try:
        yield free
    finally:
        if free:
            with _CHANGES:
                held.leave(alone=True)
                _CHANGES.notify_all()


_CHANGES = threading.Condition()
"""Held while somebody comes in or goes out, never while a network runs."""


class _Saved:
    """Something that threads use together, and what puts it back when the last one leaves."""

    def __init__(self, restore: Callable[[], object]) -> None:
        self.restore = restore
        self.users: Counter[int] = Counter()
        self.alone: Counter[int] = Counter()


_SAVED: dict[Any, _Saved] = {}
"""What is in use now, by `id` of module and parameter or by name; each entry keeps its owner."""


class _Held:
    """One thread's use of a module's parts, parameters and buffers and of the random state."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = list(module.modules())
        self.parameters = [p for p in module.parameters() if p.is_leaf]
        self.thread = threading.get_ident()
        devices = {p.device.index for p in self.parameters if p.device.type == "cuda"}
        self.random = ["cpu", *sorted(f"cuda:{d}" for d in devices if d is not None)]
        self.keys = [*map(id, self.parts), *map(id, self.parameters), *self.random]

    def is_free(self, *, alone: bool) -> bool:
        """Whether this thread may come in: nobody else is alone there, or is there at all."""
        for part in self.parts:
            saved = _SAVED.get(id(part))
            others = () if saved is None else (saved.users if alone else saved.alone)
            if any(thread != self.thread for thread in others):
                return False
        return True

    def enter(self, *, alone: bool) -> None:
        """Save and set what nobody else has saved and set."""
        fresh = [part for part in self.parts if id(part) not in _SAVED]
        plain = [p for p in self.parameters if id(p) not in _SAVED]
        for part in fresh:
            _SAVED[id(part)] = _Saved(partial(_restore_part, part, _flag(part), _buffers(part)))
        for parameter in plain:
            required = parameter.requires_grad
            _SAVED[id(parameter)] = _Saved(partial(parameter.requires_grad_, required))
        for name in self.random:
            if name not in _SAVED:
                _SAVED[name] = _Saved(_random_state(name))
        for key in self.keys:
            _SAVED[key].users[self.thread] += 1
            if alone:
                _SAVED[key].alone[self.thread] += 1
        for part in fresh:
            if _flag(part) is not None:
                mark_eval(part)
        for parameter in plain:
            parameter.requires_grad_(False)

    def leave(self, *, alone: bool) -> None:
        """Restore what nobody else uses."""
        for key in self.keys:
            saved = _SAVED[key]
            for count in (saved.users, saved.alone) if alone else (saved.users,):
                count[self.thread] -= 1
                if not count[self.thread]:
                    del count[self.thread]
            if not saved.users:
                del _SAVED[key]
                saved.restore()


def _flag(part: nn.Module) -> bool | None:
    """Its training flag; a frozen scripted module has none."""
    return getattr(part, "training", None)


def _buffers(part: nn.Module) -> list["_Buffer"]:
    return [_Buffer(part, name) for name in part._buffers.keys()]  # noqa: SIM118, a script's iterates otherwise


def _restore_part(part: nn.Module, training: bool | None, buffers: "list[_Buffer]") -> None:
    if training is not None:
        part.training = training
    with torch.no_grad():
        for buffer in buffers:
            buffer.restore()


@contextmanager
def attributes_as_found(module: nn.Module) -> Iterator[None]:
    """For libraries that hang things on a network: all of it is taken off after, also on an error.

    Kept for every submodule: its attributes, hooks among them, and the tensor behind each
    parameter. Values that are written into a parameter in place are not.
    """
    parts = [_Attributes(part) for part in module.modules()]
    data = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        yield
    finally:
        for part in parts:
            part.restore()
        for parameter, values in data:
            parameter.data = values


class _Attributes:
    """What a module object holds, and what its dictionaries of hooks and parts hold."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.held = dict(owner.__dict__)
        self.inner = [(held, dict(held)) for held in self.held.values() if isinstance(held, dict)]

    def restore(self) -> None:
        """Put it all back, in the same dictionaries, since handles of hooks point to them."""
        self.owner.__dict__.clear()
        self.owner.__dict__.update(self.held)
        for held, content in self.inner:
            held.clear()
            held.update(content)


def mark_eval(part: nn.Module) -> None:
    """Set the flag of this one module, not of those inside it; its own `train()` is not called."""
    part.training = False


class _Buffer:
    """A buffer as it was: the tensor that held the place, and its values."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        self.owner, self.name = owner, name
        self.tensor = owner._buffers[name]
        self.values = None if self.tensor is None else self.tensor.detach().clone()
        self.version = None if self.tensor is None else self.tensor._version

    def restore(self) -> None:
        """Put the tensor back in its place, with its values where they were written to."""
        self.owner._buffers[self.name] = self.tensor
        if self.tensor is None or self.values is None or self.tensor._version == self.version:
            return
        self.tensor.copy_(self.values)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Autograd works inside, whatever the caller's `no_grad` or `inference_mode`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def refuse_inference_tensors(module: nn.Module) -> None:
    """Raise `ModelError` naming the first parameter or buffer that autograd cannot use."""
    named: list[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        if tensor.is_inference():
            raise ModelError(
                f"the module's {name} was created inside torch.inference_mode(), where autograd "
                "cannot follow: create or load the module outside of it"
            )


def _random_state(device: str) -> Callable[[], object]:
    """What puts back the random state: "cpu" with Python's and NumPy's, or a CUDA device's."""
    if device != "cpu":
        return partial(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)

    return restore
