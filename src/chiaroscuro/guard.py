"""The one place that prepares a network for a pass, and leaves it as it was found.

Threads may overlap on one network: the first holder of a change makes it, the last one undoes it.
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
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from chiaroscuro.errors import ModelError

Change = Callable[[], Callable[[], object]]
"""Changes something, and returns what undoes it."""


@contextmanager
def as_found(module: nn.Module, *, alone: bool = False) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before after, also on an error.

    Restored: every training flag and `requires_grad`, the buffers and their values, and the random
    states of Python, NumPy and torch. Threads that overlap share one preparation; the last to leave
    restores. `alone`: no other thread is inside, as for changes of the module itself. A module that
    was seen to write its buffers is always held alone: one call's values must not reach another.
    """
    check_tensors(module)
    parts = list(module.modules())
    changes: dict[Hashable, Change] = {id(part): partial(_to_eval, part) for part in parts}
    parameters = list(module.parameters())
    changes |= {id(p): partial(_freeze, p) for p in parameters if p.is_leaf}
    random_states: dict[Hashable, Change] = {"random states": _random_states}
    devices = {p.device for p in parameters if p.device.type == "cuda"}
    random_states |= {device: partial(_cuda_state, device) for device in devices}
    writes = any(part in _WRITERS for part in parts)
    with held(random_states), held(changes, alone=alone or writes):
        yield


@dataclass(eq=False, slots=True)
class _Holder:
    """One block that holds something; it waits where it needs the others to leave."""

    thread: int
    alone: bool
    waits: bool = False


_HELD: dict[Hashable, tuple[Callable[[], object], list[_Holder]]] = {}
"""What is changed, by its key: what undoes the change, and the blocks that hold it."""
_CHANGED = threading.Condition()
_WRITERS: WeakSet[nn.Module] = WeakSet()
"""Modules that were seen to write a buffer of theirs in eval mode."""


@contextmanager
def held(changes: Mapping[Hashable, Change], *, alone: bool = False) -> Iterator[None]:
    """Changed inside, whatever other threads hold it too; the last holder's exit undoes it.

    `alone`: waits until no other thread is inside, and keeps others out. A thread that waits inside
    another hold of the same keys counts as outside.
    """
    mine = _Holder(threading.get_ident(), alone)
    try:
        with _CHANGED:
            _wait(changes, mine)
            for key, change in changes.items():
                if key not in _HELD:
                    _HELD[key] = change(), []
                _HELD[key][1].append(mine)
        yield
    finally:
        with _CHANGED, ExitStack() as stack:  # one that fails to be restored keeps no other
            stack.callback(_CHANGED.notify_all)
            for key in changes:
                stack.callback(_release, key, mine)


def _wait(changes: Mapping[Hashable, Change], mine: _Holder) -> None:
    def holders() -> set[_Holder]:
        return {h for key in changes if key in _HELD for h in _HELD[key][1]}

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
    restore, holders = _HELD.get(key, (None, []))
    if restore is None or mine not in holders:
        return
    holders.remove(mine)
    if not holders:
        del _HELD[key]
        restore()


def _to_eval(part: nn.Module) -> Callable[[], object]:
    training = getattr(part, "training", None)  # a frozen TorchScript module has none
    buffers = dict(part._buffers)
    saved = [(t, t._version, t.detach().clone()) for t in buffers.values() if t is not None]
    if training:
        mark_eval(part)

    def restore() -> None:
        if training is not None and part.training != training:  # setting it is slow
            part.training = training
        if any(part._buffers[name] is not tensor for name, tensor in buffers.items()):
            part._buffers.update(buffers)
            _WRITERS.add(part)
        for tensor, version, values in saved:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(values)
                _WRITERS.add(part)

    return restore


def mark_eval(part: nn.Module) -> None:
    """Set the flag of this one module, not of those inside it; its own `train()` is not called."""
    part.training = False


def _freeze(parameter: nn.Parameter) -> Callable[[], object]:
    required = parameter.requires_grad
    parameter.requires_grad_(False)
    return lambda: parameter.requires_grad_(required)


@contextmanager
def attributes_as_found(module: nn.Module) -> Iterator[None]:
    """For libraries that attach things to a network: every submodule's attributes, hooks among
    them, and the tensor behind each parameter are as before after. No other thread is inside.
    """
    with as_found(module, alone=True):
        own = [part.__dict__ for part in module.modules()]
        # The same dictionaries, hooks' among them, since handles of hooks point to them.
        inner = [value for held in own for value in held.values() if isinstance(value, dict)]
        contents = [(held, dict(held)) for held in (*own, *inner)]
        data = [(parameter, parameter.data) for parameter in module.parameters()]
        try:
            yield
        finally:
            for held, content in contents:
                held.clear()
                held.update(content)
            for parameter, values in data:
                parameter.data = values


def check_tensors(module: nn.Module) -> None:
    """Raise `ModelError` naming the first parameter or buffer that no gradient can pass."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            fault = "has no shape yet: run the module once, as lazy layers need"
        elif tensor.is_inference():
            fault = "was created inside torch.inference_mode(): create or load it outside"
        elif tensor.is_meta:
            fault = "is on the meta device, which holds no values: load its weights"
        elif tensor.is_mkldnn:
            fault = "is in MKL-DNN layout: give the module as it was before to_mkldnn"
        else:
            continue
        raise ModelError(f"the module's {name} {fault}")


def _random_states() -> Callable[[], object]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)

    return restore


def _cuda_state(device: torch.device) -> Callable[[], object]:
    return partial(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
