"""The one place that prepares a network for being asked, and leaves it as it was found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.errors import ModelError


@contextmanager
def as_found(module: nn.Module) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before after, also on an error.

    Kept: the training flag of every submodule, `requires_grad` of every parameter, the buffers
    and their values, and the random state of Python, NumPy, the CPU and the module's CUDA devices.
    Flags are set one by one, so a module's own `train()` is not called.
    Raises `ModelError` for parameters or buffers made inside `torch.inference_mode()`.
    """
    refuse_inference_tensors(module)
    flags = [(part, part.training) for part in module.modules()]
    parameters = [(p, p.requires_grad) for p in module.parameters() if p.is_leaf]
    buffers = [_Buffer(part, name) for part, _ in flags for name in part._buffers]
    with _random_state(module):
        try:
            for part, _ in flags:
                mark_eval(part)
            for parameter, _ in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for part, training in flags:
                part.training = training
            for parameter, required in parameters:
                parameter.requires_grad_(required)
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


@contextmanager
def _random_state(module: nn.Module) -> Iterator[None]:
    devices = {p.device.index for p in module.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
