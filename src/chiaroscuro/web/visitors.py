"""Who visits the page, and what of each is kept in memory: photos and explanations."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from chiaroscuro.errors import InputError
from chiaroscuro.results.explanations import Explanation

T = TypeVar("T")

MOST_VISITORS = 200
MOST_PHOTOS = 12
MOST_ANSWERS = 8
"""Of each visitor; older ones are forgotten."""
MOST_BYTES = 1 << 29
"""Uploads of all visitors together."""
PATIENCE = 12 * 3600.0
"""Seconds after which a visitor who asks nothing is forgotten."""


class GoneError(InputError):
    """A photo or an answer is not, or no longer, kept for this visitor."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A photo as it came: encoded bytes, and a name for titles. `path` is set for the server's."""

    name: str
    data: bytes
    path: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """An explanation with the upload, the model and the region, as it was typed, that it is of."""

    explanation: Explanation
    upload: Upload
    model: str
    region: str = ""


@dataclass(eq=False)
class Visitor:
    """One browser; `photos` and `answers` by their keys, the newest last."""

    key: str
    seen: float
    photos: "OrderedDict[str, Upload]" = field(default_factory=OrderedDict)
    answers: "OrderedDict[str, Answer]" = field(default_factory=OrderedDict)

    @property
    def bytes(self) -> int:
        """What the visitor's uploads take."""
        return sum(len(upload.data) for upload in self.photos.values())


class Visitors:
    """Every visitor by the key in the browser's cookie; what one keeps, no other can name."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def welcome(self, key: str | None) -> Visitor:
        """The visitor of a key, or a new one."""
        return self.find(key) or self._add()

    def find(self, key: str | None) -> Visitor | None:
        """The visitor of a key, if it is known."""
        with self._lock:
            visitor = self._known.get(key or "")
            if visitor is not None:
                visitor.seen = time.monotonic()
                self._known.move_to_end(visitor.key)
            return visitor

    def keep_photo(self, visitor: Visitor, upload: Upload) -> str:
        """Keep a photo; the same bytes get another key each time."""
        with self._lock:
            key = _keep(visitor.photos, upload, MOST_PHOTOS)
            total = sum(one.bytes for one in self._known.values())
            for other in self._known.values():  # the longest away first
                while total > MOST_BYTES and len(other.photos) > (other is visitor):
                    total -= len(other.photos.popitem(last=False)[1].data)
        return key

    def keep_answer(self, visitor: Visitor, answer: Answer) -> str:
        """Keep an explanation for what is asked of it next."""
        with self._lock:
            return _keep(visitor.answers, answer, MOST_ANSWERS)

    def photo(self, visitor: Visitor, key: str) -> Upload:
        """A visitor's photo; raises `GoneError`."""
        with self._lock:
            return _find(visitor.photos, key, "photo", "give it")

    def answer(self, visitor: Visitor, key: str) -> Answer:
        """A visitor's explanation; raises `GoneError`."""
        with self._lock:
            return _find(visitor.answers, key, "explanation", "explain")

    def _add(self) -> Visitor:
        now = time.monotonic()
        visitor = Visitor(secrets.token_urlsafe(24), now)
        with self._lock:
            for old in [v for v in self._known.values() if now - v.seen > PATIENCE]:
                del self._known[old.key]
            while len(self._known) >= MOST_VISITORS:
                self._known.popitem(last=False)
            self._known[visitor.key] = visitor
        return visitor


def _keep(kept: "OrderedDict[str, T]", value: T, most: int) -> str:
    key = secrets.token_urlsafe(16)
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
    return key


def _find(kept: "OrderedDict[str, T]", key: str, what: str, advice: str) -> T:
    if key not in kept:
        raise GoneError(f"this {what} is not kept here (any more): {advice} once more")
    kept.move_to_end(key)
    return kept[key]
