"""What a device's caches, cores and number formats mean for the sizes of work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MIB = 1 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Facts of one machine, and every size that follows from them.

    `cores` that this process may use; `cache_bytes` of the last cache; `budget_bytes` above the
    loaded model unless a budget is given; `vector_bytes` of one arithmetic instruction;
    `slow_convolutions`: number formats whose forward convolutions on a CPU have no fast kernels.
    The defaults are what all sizes were measured with. A GPU takes the same sizes.

    Sizes decide how sums are grouped, so results under two profiles differ by rounding. A saved
    run lists its profile, and `profile_in_use` reproduces it elsewhere.

    >>> DeviceProfile().chunk_bytes >> 20, DeviceProfile(cache_bytes=16 << 20).chunk_bytes >> 20
    (20, 10)
    """

    cores: int = 2
    cache_bytes: int = 32 * _MIB
    budget_bytes: int = 900 * _MIB
    vector_bytes: int = 64
    slow_convolutions: tuple[str, ...] = ("float64",)

    @property
    def chunk_bytes(self) -> int:
        """What one step of the backward pass reads and writes: with more it leaves the cache, with
        less than 8 MiB its own cost outweighs the arithmetic.
        """
        return min(20 * _MIB, max(8 * _MIB, self.cache_bytes * 5 // 8))

    @property
    def busy_rows(self) -> int:
        """Rows that keep the cores busy, so that a step needs no more than `busy_bytes`."""
        return 32 * self.cores

    @property
    def busy_bytes(self) -> int:
        """What many rows read and write at a time."""
        return self.chunk_bytes * 2 // 5

    @property
    def forward_bytes(self) -> int:
        """Pixels that are predicted together."""
        return self.chunk_bytes * 3 // 10

    @property
    def tangent_bytes(self) -> int:
        """Pixels that forward-mode derivatives take together."""
        return self.chunk_bytes // 5

    @property
    def graph_bytes(self) -> int:
        """What autograd keeps at a time for one class: larger batches gain nothing."""
        return self.chunk_bytes * 16

    @property
    def matrix_bytes(self) -> int:
        """The largest matrix that stands for a convolution of a few pixels."""
        return min(32 * _MIB, self.cache_bytes)

    @property
    def lanes(self) -> int:
        """Single-precision numbers of one instruction: channels are left out so many at a time."""
        return self.vector_bytes // 4

    @property
    def many_classes(self) -> int:
        """Classes that are worth a look for zero channels: it costs as much as one class."""
        return 32

    def describe(self) -> dict[str, Any]:
        """The facts in plain values, for a saved run; `DeviceProfile(**facts)` reads them back."""
        return asdict(self) | {"slow_convolutions": list(self.slow_convolutions)}


def device_profile() -> DeviceProfile:
    """The profile in use: this machine's, unless `profile_in_use` says another."""
    return _IN_USE.get() or _of_this_machine()


@contextmanager
def profile_in_use(profile: DeviceProfile) -> Iterator[None]:
    """Work inside as on a machine of this profile."""
    token = _IN_USE.set(profile)
    try:
        yield
    finally:
        _IN_USE.reset(token)


_IN_USE: ContextVar[DeviceProfile | None] = ContextVar("device_profile", default=None)


@cache
def _of_this_machine() -> DeviceProfile:
    usual = DeviceProfile()
    memory = _total_memory()
    return DeviceProfile(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else usual.cores,
        cache_bytes=_last_cache() or usual.cache_bytes,
        budget_bytes=min(usual.budget_bytes, memory // 4) if memory else usual.budget_bytes,
    )


def _last_cache() -> int:
    """Bytes of the last cache; 0 where the system does not tell."""
    sizes = [0]
    for place in _CACHES.glob("index*/size"):
        try:
            text = place.read_text().strip()
            sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": _MIB}[text[-1]])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return max(sizes)


def _total_memory() -> int:
    """Bytes of the machine's memory; 0 where the system does not tell."""
    try:
        first, *_ = _MEMORY.read_text().splitlines()
        return int(first.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        return 0
