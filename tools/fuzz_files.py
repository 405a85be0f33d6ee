"""Mutations of files: bytes, numbers, sizes in headers, JSON values; checksums that fit again."""

import copy
import json
import random
import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from chiaroscuro.results import folders

Files = Mapping[str, bytes]
SIZE = 37, 29
"""Width and height of photos before they are changed: numbers that headers have nowhere else."""
_TOKENS = (
    b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP",
    b"zTXt", b"\xff\xd8", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xda", b"\xff\xd9",
    b"\xff\xe1", b"\xff\xe2MPF\0", b"Exif\0\0", b"GIF89a", b"\x21\xf9\x04", b"\x2c", b"\x3b",
    b"RIFF", b"VP8 ", b"VP8L", b"VP8X", b"ANMF", b"ALPH", b"II*\0", b"MM\0*", b"II+\0", b"ftypavif",
    b"../../", b"ispe", b"mdat", b"jP  ", b"jp2c", b"\xff\x4f\xff\x51", b"P6\n", b"P5\n", b"65535",
    b"PAR1", b"PK\x03\x04", b"PK\x01\x02", b"\x93NUMPY", b"'descr': '|O'",
    b"'shape': (9999999999,)", b"\0", b"cos\nsystem\n", b"\x80\x04\x95", b"<script>",
    b"/dev/zero\0", b"\x1b[2J", b"\xe2\x80\xae",
)  # fmt: skip
NUMBERS = (0, 1, 2, -1, 127, 255, 9459, 30_000, 65_535, 100_000, 2**31 - 1, 2**32 - 1, 2**63 - 1)
_VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, 10**30, 1e308, float("nan"), float("inf"), -0.5, "", "x" * 5000,
    "../../../etc/passwd", "/dev/zero", "\x1b[2J\x07", "\u202etxt", "<script>alert(1)</script>",
    "=1+1", "\\input{x}", "a\nb", [], {}, [[[]]], {"array": "pixels"}, {"number": "nan"},
)  # fmt: skip


def changed_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Bytes with one to four mutations; `other` is spliced in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_MUTATIONS)(rng, out, other)
    if out.startswith(b"\x89PNG") and rng.random() < 0.7:
        _mend_png(out)
    return bytes(out)


def _flip(rng: random.Random, out: bytearray, _: bytes) -> None:
    for _times in range(min(len(out), rng.choice((1, 3, 20)))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, out: bytearray, _: bytes) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _splice(rng: random.Random, out: bytearray, other: bytes) -> None:
    start, place = rng.randrange(len(other) + 1), rng.randrange(len(out) + 1)
    taken = other[start : start + rng.choice((4, 40, 400))]
    out[place : place + rng.choice((0, len(taken)))] = taken


def _repeat(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    out[start:start] = out[start : start + rng.choice((8, 60))] * rng.choice((1, 30, 3000))


def _number(rng: random.Random, out: bytearray, _: bytes) -> None:
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "B"))
    place = rng.randrange(len(out) + 1)
    out[place : place + struct.calcsize(form)] = _packed(form, rng.choice(NUMBERS))


def _token(rng: random.Random, out: bytearray, _: bytes) -> None:
    token, place = rng.choice(_TOKENS), rng.randrange(len(out) + 1)
    out[place : place + rng.choice((0, len(token)))] = token


def _sides(rng: random.Random, out: bytearray, _: bytes) -> None:
    """The size in the header becomes another one, often a huge one."""
    for side in SIZE:
        number = rng.choice((side, side, side, side + 1, 200, *NUMBERS))
        for form in ("<H", ">H", "<I", ">I"):
            out[:] = out.replace(_packed(form, side), _packed(form, number), rng.choice((1, 9)))
        out[:] = out.replace(str(side).encode(), str(number).encode())


_MUTATIONS = (_flip, _cut, _splice, _repeat, _number, _token, _sides)


def _packed(form: str, number: int) -> bytes:
    return struct.pack(form, number & (1 << 8 * struct.calcsize(form)) - 1)


def _mend_png(out: bytearray) -> None:
    """Checksums that fit, without which nothing behind them is tried."""
    place = 8
    while place + 12 <= len(out):
        end = place + 8 + int.from_bytes(out[place : place + 4], "big")
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[place + 4 : end]))
        place = end + 4


def changed_json(rng: random.Random, data: bytes) -> bytes:
    """JSON with a value or a key changed, removed or moved."""
    plain = json.loads(data)
    for _ in range(rng.choice((1, 1, 3))):
        nodes = list(_nodes(plain))
        if not nodes:
            break
        holder, key = rng.choice(nodes)
        match rng.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("", "__class__", "x\x1b", key + " "))] = holder.pop(key)
            case 2:
                inner, name = rng.choice(nodes)
                with suppress(LookupError):  # which an earlier change took away
                    holder[key] = copy.deepcopy(inner[name])
            case _:
                holder[key] = copy.deepcopy(rng.choice(_VALUES))  # else it may hold itself
    return json.dumps(plain).encode("utf-8", "surrogatepass")


def _nodes(plain: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(plain, dict | list):
        for key in plain if isinstance(plain, dict) else range(len(plain)):
            yield plain, key
            yield from _nodes(plain[key])


def mutated(rng: random.Random, seeds: list[Files]) -> Files:
    """One of the seeds with one of its files changed, often with checksums that fit again."""
    files = dict(rng.choice(seeds))
    name = rng.choice(sorted(files))
    other = rng.choice([*rng.choice(seeds).values()])
    if name.endswith(".json") and rng.random() < 0.8:
        files[name] = changed_json(rng, files[name])
    else:
        files[name] = changed_bytes(rng, files[name], other)
    return _resealed(files) if rng.random() < 0.8 else files


def _resealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Markers and receipts that list the files as they are: damage with a fitting checksum."""
    for name in [name for name in files if name.endswith(".json")]:
        kind: Any = folders.Receipt if name.startswith("parts/") else folders.Marker
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            held: Any = msgspec.json.decode(files[name], type=kind)
            listed = {n: folders.digest(files[n]) for n in held.files if n in files}
            listed = {**held.files, **listed}
            files[name] = msgspec.json.encode(folders.sealed(replace(held, files=listed)))
    return files
