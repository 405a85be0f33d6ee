"""Memory of this process, kept instead of handed back."""

import ctypes
import platform


def tune_allocator() -> bool:
    """Keep freed blocks in this process, so that large tensors need no fresh pages; True if done.

    Each backward pass frees and takes the same large blocks. glibc hands those back to the system
    at every free, and the page faults of taking them again cost up to half of the time. Blocks of
    more than 128 MiB, one or two a photo, are still handed back: they are few and live long, and
    the gaps that they leave fit nothing else. This sets two thresholds of glibc for the whole
    process, and is a no-op elsewhere: the command line calls it at its start, a library user may.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc, trim_threshold, mmap_threshold = ctypes.CDLL("libc.so.6"), -1, -3
    return bool(libc.mallopt(mmap_threshold, 2**27) and libc.mallopt(trim_threshold, 2**31 - 1))
