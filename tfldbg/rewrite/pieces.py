"""A file in pieces, which can be built without copying large constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ComputedBytes:
    """Bytes that are computed in parts while they are written."""

    size: int
    """The number of bytes."""
    arrays: Callable[[], Iterator[NDArray[Any]]]
    """Returns the bytes as consecutive arrays."""


Piece = bytes | memoryview | ComputedBytes


@dataclass(frozen=True, eq=False)  # without slots, which would allow no weak references
class Pieces:
    """The bytes of a file as consecutive pieces.

    It can be pickled, with all its bytes in memory; `tfldbg.run.placed` spares processes of one
    machine that.
    """

    parts: tuple[Piece, ...]

    def __reduce__(self) -> tuple[type[Pieces], tuple[tuple[bytes]]]:
        """Return the whole file as one piece."""
        return Pieces, ((bytes(self),),)

    def __len__(self) -> int:
        """Return the size of the file in bytes."""
        return sum(p.size if isinstance(p, ComputedBytes) else len(p) for p in self.parts)

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
            if isinstance(part, ComputedBytes):
                for array in part.arrays():
                    yield array.reshape(-1).view("uint8").data
            else:
                yield part
