"""Memory of this process: freed blocks are kept, caches of shapes are small."""

import ctypes
import os
import platform
import threading

_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_SHAPES = "128"
_TUNED = threading.Event()


def tune_allocator() -> bool:
    """Keep freed blocks in this process, so that large tensors need no fresh pages; True if done.

    Each backward pass frees and takes the same large blocks. glibc hands those back to the system
    at every free, and the page faults of taking them again cost up to half of the time. Blocks of
    more than 128 MiB, one or two a photo, are still handed back: they are few and live long, and
    the gaps that they leave fit nothing else. oneDNN keeps what it prepared for 1,024 shapes of
    tensors, and batches of many sizes fill that; here it keeps 128, unless the environment says
    otherwise: a process reads that at its first convolution. Both hold for the whole process. The
    command line calls this at its start, a library user may, and worker processes do as their
    parent. Where there is no glibc, whose thresholds these are, blocks go back as before.
    """
    for name in _CACHES:
        os.environ.setdefault(name, _SHAPES)
    if platform.libc_ver()[0] != "glibc":
        return False
    libc, trim_threshold, mmap_threshold = ctypes.CDLL("libc.so.6"), -1, -3
    if libc.mallopt(mmap_threshold, 2**27) and libc.mallopt(trim_threshold, 2**31 - 1):
        _TUNED.set()
    return is_tuned()


def is_tuned() -> bool:
    """Whether `tune_allocator` did its work in this process."""
    return _TUNED.is_set()
