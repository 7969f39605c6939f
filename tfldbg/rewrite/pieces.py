"""A file in pieces, so that large constants are not copied to build it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """Bytes that are computed while they are written, some at a time."""

    size: int
    """How many bytes there are."""
    arrays: Callable[[], Iterator[NDArray[Any]]]
    """Yields them as arrays, one behind the other."""


Piece = bytes | memoryview | Computed


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The bytes of a file: its pieces, one behind the other."""

    parts: tuple[Piece, ...]

    def __len__(self) -> int:
        """Return the size of the file in bytes."""
        return sum(p.size if isinstance(p, Computed) else len(p) for p in self.parts)

    def __bytes__(self) -> bytes:
        """Return the whole file in memory."""
        return b"".join(self._chunks())

    def write(self, file: IO[bytes]) -> None:
        """Write the pieces to an open file.

        Raises:
            OSError: The disk is full or fails.
        """
        for chunk in self._chunks():
            file.write(chunk)

    def _chunks(self) -> Iterator[bytes | memoryview]:
        for part in self.parts:
            if isinstance(part, Computed):
                for array in part.arrays():
                    yield array.reshape(-1).view("uint8").data
            else:
                yield part
