"""What tuning sets, and what it leaves to the user."""

import os
import platform
import threading

from chiaroscuro import allocator, tune_allocator


def test_caches_of_shapes_are_small_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(allocator, "_TUNED", threading.Event())
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "7"})
    assert tune_allocator() == allocator.is_tuned() == (platform.libc_ver()[0] == "glibc")
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
