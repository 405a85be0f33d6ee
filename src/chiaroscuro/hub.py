"""The hub, used only when it answers."""

import contextlib
import io
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants

_ONE_AT_A_TIME = threading.RLock()
"""The switch belongs to the whole process: threads that overlap would leave it as they met it."""


@contextmanager
def hub_if_reachable() -> Iterator[None]:
    """Inside, Hugging Face libraries use the hub when it answers, else local files only.

    Without this a machine without internet waits through many retries for each file. What the
    libraries print on standard output while they download is kept back.
    """
    with _ONE_AT_A_TIME:
        copy = sys.modules.get("datasets.config")  # of the switch, once datasets is imported
        places: list[Any] = [constants] if copy is None else [constants, copy]
        before = [place.HF_HUB_OFFLINE for place in places]
        try:
            offline = any(before) or not _answers()
            for place in places:
                place.HF_HUB_OFFLINE = offline
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            for place, value in zip(places, before, strict=True):
                place.HF_HUB_OFFLINE = value


def _answers() -> bool:
    if urllib.request.getproxies():
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((address.hostname, port), timeout=3),
    ):
        return True
    return False
