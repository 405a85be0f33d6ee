"""What the server of the live page is started with."""

from dataclasses import dataclass
from pathlib import Path

from chiaroscuro.catalog import TextClasses


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with.

    `models`: what a page may choose, the first by default; `photos`: photos of this machine that
    it offers besides the packaged ones; `token`: what the address must hold where other machines
    can reach the server; `seconds`: the limit for one answer; `texts`: the classes of models that
    have none of their own; `stored`: folders of stored maps, which are shown where they fit.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8347
    device: str = "cpu"
    photos: tuple[Path, ...] = ()
    token: str | None = None
    seconds: float = 600.0
    texts: TextClasses | None = None
    stored: tuple[Path, ...] = ()
