"""The sizes of work that suit a machine's caches, cores and number formats."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

_MIB = 1 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_PROCESSOR = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Every size that work is cut to. The defaults were measured: two cores, a cache of 32 MiB.

    `budget_bytes`: memory above the loaded model unless a budget is given. `chunk_bytes`: what one
    step of the backward pass reads and writes; more leaves the cache, less costs more than the
    arithmetic. `busy_rows` keep all cores busy, so they take no more than `busy_bytes`.
    `forward_bytes`, `tangent_bytes`: pixels that are predicted, or differentiated in forward mode,
    at a time. `graph_bytes`: what autograd keeps at a time for one class. `matrix_bytes`: the
    largest matrix that stands for a convolution of a few pixels. `lanes`: numbers of one
    instruction, so channels are left out so many at a time, where `many_classes` make the look for
    them worth its cost. `slow_convolutions`: number formats whose forward convolutions have no fast
    kernels on CPUs. On a GPU what one step takes follows from free memory (`of_gpu`).

    Sizes decide how sums are grouped, so results under two profiles differ by rounding. A saved
    run lists its profile (`describe`), and `profile_in_use(DeviceProfile(**listed))` reproduces it.

    >>> DeviceProfile.of(cores=4, cache_bytes=16 << 20).chunk_bytes >> 20
    10
    """

    budget_bytes: int = 900 * _MIB
    chunk_bytes: int = 20 * _MIB
    busy_rows: int = 64
    busy_bytes: int = 8 * _MIB
    forward_bytes: int = 6 * _MIB
    tangent_bytes: int = 4 * _MIB
    graph_bytes: int = 320 * _MIB
    matrix_bytes: int = 32 * _MIB
    lanes: int = 16
    many_classes: int = 32
    slow_convolutions: tuple[str, ...] = ("float64",)

    @classmethod
    def of(cls, cores: int, cache_bytes: int, memory_bytes: int = 1 << 62) -> "DeviceProfile":
        """The sizes for a machine of so many cores, last cache and memory."""
        chunk = min(20 * _MIB, max(8 * _MIB, cache_bytes * 5 // 8))
        return cls(
            budget_bytes=min(900 * _MIB, memory_bytes // 4),
            chunk_bytes=chunk,
            busy_rows=32 * cores,
            busy_bytes=chunk * 2 // 5,
            forward_bytes=chunk * 3 // 10,
            tangent_bytes=chunk // 5,
            graph_bytes=chunk * 16,
            matrix_bytes=min(32 * _MIB, cache_bytes),
        )

    @classmethod
    def of_gpu(cls, free_bytes: int) -> "DeviceProfile":
        """The sizes for a GPU of so much free memory: a step fills it, whatever its cache holds."""
        chunk = min(1 << 30, max(8 * _MIB, free_bytes // 32))
        return cls(
            budget_bytes=free_bytes // 2,
            chunk_bytes=chunk,
            busy_rows=4096,
            busy_bytes=chunk,
            forward_bytes=chunk // 8,
            tangent_bytes=chunk // 16,
            graph_bytes=free_bytes // 4,
        )

    def describe(self) -> dict[str, Any]:
        """All sizes in plain values that JSON keeps."""
        return asdict(self) | {"slow_convolutions": list(self.slow_convolutions)}


def device_profile(device: object = "cpu", kept: DeviceProfile | None = None) -> DeviceProfile:
    """The profile in use: one that was `kept` or a device's own, unless `profile_in_use` says
    another.
    """
    if profile := _IN_USE.get() or kept:
        return profile
    name = str(device)
    return _of_gpu(name) if name.startswith("cuda") else _of_this_machine()


@contextmanager
def profile_in_use(profile: DeviceProfile) -> Iterator[None]:
    """Work inside as on a machine of this profile."""
    token = _IN_USE.set(profile)
    try:
        yield
    finally:
        _IN_USE.reset(token)


_IN_USE: ContextVar[DeviceProfile | None] = ContextVar("device_profile", default=None)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for products in bfloat16: AVX512-BF16, AMX, or a recent GPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        words = set(_PROCESSOR.read_text().split())
    except OSError:
        return False
    return device.type == "cpu" and not words.isdisjoint({"avx512_bf16", "amx_bf16"})


def rounded_to_tf32(device: torch.device) -> tuple[str, ...]:
    """What a GPU computes in TensorFloat-32 where float32 is asked for: PyTorch's settings."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return ()
    if conv := getattr(torch.backends.cudnn, "conv", None):
        formats = conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
        on = [name == "tf32" for name in formats]
    else:  # PyTorch before 2.9
        on = [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
    return tuple(
        what for what, is_on in zip(("convolutions", "products"), on, strict=True) if is_on
    )


@cache
def _of_gpu(device: str) -> DeviceProfile:
    """The sizes for the memory that was free when this process first asked."""
    free, _ = torch.cuda.mem_get_info(device)
    return DeviceProfile.of_gpu(free)


@cache
def _of_this_machine() -> DeviceProfile:
    """What the system tells; where it tells nothing, what the sizes were measured with."""
    try:
        caches = [place.read_text().strip() for place in _CACHES.glob("index*/size")]
        units = {"K": 1 << 10, "M": _MIB}
        last = max(int(text[:-1]) * units[text[-1]] for text in caches)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return DeviceProfile.of(len(os.sched_getaffinity(0)), last, memory)
    except (OSError, ValueError, KeyError, AttributeError):
        return DeviceProfile()
