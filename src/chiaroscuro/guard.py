"""The one place that prepares a network for a pass, and leaves it as it was found.

Threads may overlap on one network: what is changed is counted, so that the first holder saves and
changes it and the last one restores it.
"""

import random
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from chiaroscuro.errors import ModelError

Change = Callable[[], Callable[[], object]]
"""Changes something, and returns what undoes it."""


@contextmanager
def as_found(module: nn.Module, *, alone: bool = False) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before after, also on an error.

    Restored: the training flag of every submodule, `requires_grad` of every parameter, the buffers
    and their values, and the random state of Python, NumPy, the CPU and the module's CUDA devices.
    Flags are set one by one, so a module's own `train()` is not called.

    Threads that overlap share one preparation; the last to leave restores. `alone`: no other thread
    is inside, as for changes of the module itself. A module that was seen to write its buffers is
    always held alone, since one call's values must not reach another.

    Raises `ModelError` for parameters or buffers that no gradient can pass.
    """
    check_tensors(module)
    parts = list(module.modules())
    changes: dict[Hashable, Change] = {id(part): partial(_to_eval, part) for part in parts}
    changes |= {id(p): partial(_freeze, p) for p in module.parameters() if p.is_leaf}
    writes = any(part in _WRITERS for part in parts)
    with held(_random_states(module)), held(changes, alone=alone or writes):
        yield


@dataclass(eq=False, slots=True)
class _Holder:
    """One block that holds something; it waits where it needs the others to leave."""

    thread: int
    alone: bool
    waits: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    restore: Callable[[], object]
    holders: list[_Holder]


_HELD: dict[Hashable, _Held] = {}
_CHANGED = threading.Condition()
_WRITERS: WeakSet[nn.Module] = WeakSet()
"""Modules that were seen to write a buffer of theirs in eval mode."""


@contextmanager
def held(changes: Mapping[Hashable, Change], *, alone: bool = False) -> Iterator[None]:
    """Changed inside, whatever other threads hold it too; the last holder's exit undoes it.

    `changes` by a key each. `alone`: waits until no other thread is inside, and keeps others out.
    A thread that waits inside another hold of the same keys counts as outside.
    """
    mine = _Holder(threading.get_ident(), alone)
    try:
        with _CHANGED:
            _wait(changes, mine)
            for key, change in changes.items():
                if key not in _HELD:
                    _HELD[key] = _Held(change(), [])
                _HELD[key].holders.append(mine)
        yield
    finally:
        with _CHANGED, ExitStack() as stack:  # one that fails to be restored keeps no other
            stack.callback(_CHANGED.notify_all)
            for key in changes:
                stack.callback(_release, key, mine)


def _wait(changes: Mapping[Hashable, Change], mine: _Holder) -> None:
    def holders() -> set[_Holder]:
        return {h for key in changes if key in _HELD for h in _HELD[key].holders}

    def is_free() -> bool:
        others = (h for h in holders() if h.thread != mine.thread)
        return not any(h.alone or (mine.alone and not h.waits) for h in others)

    outer = [h for h in holders() if h.thread == mine.thread]
    if outer and not mine.alone:
        return
    try:
        for holder in outer:
            holder.waits = True
        _CHANGED.notify_all()
        _CHANGED.wait_for(is_free)
    finally:
        for holder in outer:
            holder.waits = False


def _release(key: Hashable, mine: _Holder) -> None:
    entry = _HELD.get(key)
    if entry is None or mine not in entry.holders:
        return
    entry.holders.remove(mine)
    if not entry.holders:
        del _HELD[key]
        entry.restore()


def _to_eval(part: nn.Module) -> Callable[[], object]:
    training = getattr(part, "training", None)  # a frozen TorchScript module has none
    buffers = [_Buffer(part, name, tensor) for name, tensor in part._buffers.items()]
    if training is not None:
        mark_eval(part)

    def restore() -> None:
        if training is not None:
            part.training = training
        with torch.no_grad():
            written = [buffer.restore() for buffer in buffers]
        if any(written):
            _WRITERS.add(part)

    return restore


def _freeze(parameter: nn.Parameter) -> Callable[[], object]:
    required = parameter.requires_grad
    parameter.requires_grad_(False)
    return lambda: parameter.requires_grad_(required)


@contextmanager
def attributes_as_found(module: nn.Module) -> Iterator[None]:
    """For libraries that attach things to a network: all of it is removed after, also on an error.

    Restored for every submodule: its attributes, hooks among them, and the tensor behind each
    parameter. Values that are written into a parameter in place are not. No other thread asks the
    network meanwhile.
    """
    with as_found(module, alone=True):
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

    def __init__(self, owner: nn.Module, name: str, tensor: Tensor | None) -> None:
        self.owner, self.name, self.tensor = owner, name, tensor
        self.values = None if tensor is None else tensor.detach().clone()
        self.version = None if tensor is None else tensor._version

    def restore(self) -> bool:
        """Put the tensor back in its place, with its values; whether anything had changed."""
        replaced = self.owner._buffers[self.name] is not self.tensor
        if replaced:
            self.owner._buffers[self.name] = self.tensor
        if self.tensor is None or self.values is None or self.tensor._version == self.version:
            return replaced
        self.tensor.copy_(self.values)
        return True


@contextmanager
def gradients_on() -> Iterator[None]:
    """Autograd works inside, whatever the caller's `no_grad` or `inference_mode`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def check_tensors(module: nn.Module) -> None:
    """Raise `ModelError` naming the first parameter or buffer that no gradient can pass."""
    named: list[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ModelError(
                f"the module's {name} has no shape yet: run the module once, as lazy layers need"
            )
        if tensor.is_inference():
            raise ModelError(
                f"the module's {name} was created inside torch.inference_mode(), where autograd "
                "cannot follow: create or load the module outside of it"
            )
        if tensor.is_meta:
            raise ModelError(
                f"the module's {name} is on the meta device, which holds no values: build the "
                "module on a real device, or load its weights with load_state_dict(assign=True)"
            )
        if tensor.is_mkldnn:
            raise ModelError(
                f"the module's {name} is in MKL-DNN layout, where autograd cannot follow: give the "
                "module as it was before to_mkldnn"
            )


def _random_states(module: nn.Module) -> dict[Hashable, Change]:
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    return {
        "random state of Python": _python_state,
        "random state of torch": _cpu_state,
        **{f"random state of {device}": partial(_cuda_state, device) for device in devices},
    }


def _python_state() -> Callable[[], object]:
    python, numpy = random.getstate(), np.random.get_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)

    return restore


def _cpu_state() -> Callable[[], object]:
    return partial(torch.set_rng_state, torch.get_rng_state())


def _cuda_state(device: torch.device) -> Callable[[], object]:
    return partial(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
