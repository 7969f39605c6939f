"""Damage to bytes of any kind, and to text."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence

EXTREMES = (0, 1, -1, 2, 127, 128, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1)
"""Whole numbers that arithmetic trips over; in 8 bytes also 2**60 and 2**63 - 1."""
_WIDE = (2**60, 2**62, 2**63 - 1, -(2**63))

Range = tuple[int, int]


def flip(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Flip 1 to 8 single bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        changed[where()] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Write random bytes over 1 to 32 bytes."""
    start, count = where(), rng.choice((1, 2, 4, 8, 32))
    noise = rng.randbytes(min(count, len(data) - start))
    return data[:start] + noise + data[start + len(noise) :]


def extreme(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Set 1 to 3 integers to extremes, where an aligned integer may stand."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        width = rng.choice((1, 2, 4, 4, 4, 8))
        values = EXTREMES + _WIDE if width == 8 else EXTREMES
        start = where() // width * width
        raw = struct.pack("<q" if width == 8 else "<Q", _wrapped(rng.choice(values), width))
        if start + width <= len(changed):
            changed[start : start + width] = raw[:width]
    return bytes(changed)


def _wrapped(value: int, width: int) -> int:
    wrapped = value % 2 ** (8 * width)
    return wrapped - 2**64 if width == 8 and wrapped >= 2**63 else wrapped


def truncate(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Cut the end off."""
    return data[: where()]


def duplicate(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Insert a copy of a chunk somewhere."""
    start, target = where(), where()
    chunk = data[start : start + rng.choice((4, 16, 64, 1024))]
    return data[:target] + chunk + data[target:]


def delete(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Leave a chunk out."""
    start = where()
    return data[:start] + data[start + rng.choice((1, 4, 16, 64, 1024)) :]


def move(data: bytes, rng: random.Random, where: Callable[[], int]) -> bytes:
    """Write one chunk over another: offsets then point at what is something else."""
    start, target = where() // 4 * 4, where() // 4 * 4
    chunk = data[start : start + rng.choice((4, 4, 8, 16, 64))]
    return data[:target] + chunk + data[target + len(chunk) :]


BYTES: Mapping[str, Callable[[bytes, random.Random, Callable[[], int]], bytes]] = {
    "bit flips": flip,
    "random bytes": overwrite,
    "extreme integers": extreme,
    "truncation": truncate,
    "duplicated chunk": duplicate,
    "deleted chunk": delete,
    "chunk over chunk": move,
}


def damage_bytes(
    data: bytes, rng: random.Random, spared: Sequence[Range] = ()
) -> tuple[str, bytes]:
    """Damage a file somewhere.

    Args:
        data: The file.
        rng: Decides everything.
        spared: Ranges of bytes that are mostly left alone, as weights are, which may be anything.

    Returns:
        The kind of damage, and the file.
    """
    sizes = [stop - start for start, stop in spared]
    rest = len(data) - sum(sizes)

    def where() -> int:
        if rest <= 0 or rng.random() < 0.1:
            return rng.randrange(len(data))
        found = rng.randrange(rest)
        for start, stop in sorted(spared):
            if found < start:
                break
            found += stop - start
        return min(found, len(data) - 1)

    kind = rng.choice(tuple(BYTES))
    return kind, BYTES[kind](data, rng, where)


_TOKENS = (
    "",
    "-1",
    "nan",
    "1e999",
    "0",
    '"',
    "[",
    "]",
    "{",
    "=",
    "\x00",
    "\x1b[2J",
    "é",
    "99999999999",
)


def damage_text(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage text word by word or line by line, or as any bytes."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    lines = data.decode(errors="replace").split("\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(_TOKENS)
        lines[at] = " ".join(words)
        return "words", "\n".join(lines).encode()
    other = rng.randrange(len(lines))
    lines[at : at + rng.choice((0, 1))] = rng.choice(([], [lines[other]], [lines[other]] * 3))
    return "lines", "\n".join(lines).encode()
