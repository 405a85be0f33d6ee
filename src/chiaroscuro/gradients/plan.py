"""How many images, points and classes go through the network together."""

from dataclasses import dataclass

import torch

from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError
from chiaroscuro.gradients.probe import Probe

_LEAST_CHUNK = 1 << 19
_CHUNKS = 128
"""A step reads and writes this part of a budget: others wait meanwhile, kernels keep scratch."""
_GRAPH_SHARE = 2.0
"""Peak of a forward pass and of reading its constants, over the bytes that autograd saves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One graph holds `points` x `images` rows; `classes` are summed over points at a time.

    `chunk_bytes` is what one step may read and write, `basis_bytes` what the gradients of one
    layer's features may take.
    """

    images: int
    points: int
    classes: int
    chunk_bytes: int
    basis_bytes: int

    def halved(self) -> "Plan | None":
        """The same in half of the memory; None when nothing is left to halve."""
        if self.images * self.points * self.classes == 1 and self.chunk_bytes <= _LEAST_CHUNK:
            return None
        return Plan(
            images=max(1, self.images // 2),
            points=max(1, self.points // 2),
            classes=max(1, self.classes // 2),
            chunk_bytes=max(_LEAST_CHUNK, self.chunk_bytes // 2),
            basis_bytes=self.basis_bytes // 2,
        )


def make_plan(
    images: int, classes: int, points: int, probe: Probe, memory_budget: int | None = None
) -> Plan:
    """The batch for B images, M classes and P points.

    A quarter of the budget goes to the graph, up to a half to gradients that wait (sums over
    points or a basis), the rest to those under way. Points of one image stay together as far as
    they fit, and no more images than leave room for a basis of so many features as classes.
    Raises `ChoiceError` for a budget that is not positive.
    """
    if memory_budget is not None and memory_budget <= 0:
        raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
    profile = device_profile()
    budget = profile.budget_bytes if memory_budget is None else memory_budget
    chunk = profile.chunk_bytes
    if memory_budget is not None:
        chunk = min(chunk, max(_LEAST_CHUNK, memory_budget // _CHUNKS))
    fitting = budget / 4 / (_GRAPH_SHARE * probe.row_bytes)
    rows = max(1, int(min(fitting, chunk / (2 * probe.largest_bytes))))
    together = min(points, rows)
    room = budget // 2 // (classes * together * probe.image_bytes)
    group = max(1, min(images, rows // together, room))
    waiting = max(1, budget // 2 // (group * probe.image_bytes))
    return Plan(group, together, min(classes, waiting), chunk, budget // 2)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a device's or the system's refusal of memory."""
    cause: BaseException | None = error
    while cause is not None:
        refused = "DefaultCPUAllocator: can't allocate memory" in str(cause)
        if refused or isinstance(cause, torch.OutOfMemoryError | MemoryError):
            return True
        cause = cause.__cause__
    return False
