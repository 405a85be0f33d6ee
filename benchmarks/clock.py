"""Seconds, and memory above what a process held before."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def now(device: str = "cpu") -> float:
    """Seconds, once everything given to the device is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def peak_above(device: str = "cpu") -> Iterator[dict[str, float]]:
    """The seconds of the block, and the peak bytes in it above what was held before.

    Of the process (`VmHWM`), or of a GPU's tensors.
    """
    usage: dict[str, float] = {}
    before = _held(device)
    start = now(device)
    yield usage
    usage["seconds"] = now(device) - start
    peak = _status("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()
    usage["peak"] = peak - before


def _held(device: str) -> int:
    """Bytes held now; peaks count from here."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")
