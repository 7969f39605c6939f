"""Check that the tables of a .tflite file lie inside it before any of them is read.

A flatbuffer is a graph of offsets, which its readers follow without a check: the Python reader
reads from the end of the file if an offset is negative, and reads as many entries as a vector
claims.  The C++ library has a verifier; this module verifies the tables that tfldbg reads.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_VTABLE, _OFFSET, _SHORT = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<H")
_TEXT, _ANY = "text", "any"
_BYTES, _WIDTHS = "1", {"1": 1, "4": 4, "8": 8}

_TABLES: Mapping[str, Mapping[int, str]] = {
    "Model": {
        6: "[OperatorCode]",
        8: "[SubGraph]",
        10: _TEXT,
        12: "[Buffer]",
        14: "4",
        16: "[Metadata]",
        18: "[SignatureDef]",
        20: "[ExternalBufferGroup]",
    },
    "ExternalBufferGroup": {4: _TEXT},
    "OperatorCode": {6: _TEXT},
    "SubGraph": {4: "[Tensor]", 6: "4", 8: "4", 10: "[Operator]", 12: _TEXT},
    "Tensor": {
        4: "4",
        10: _TEXT,
        12: "QuantizationParameters",
        16: "SparsityParameters",
        18: "4",
        22: "[any]",
    },
    "QuantizationParameters": {4: "4", 6: "4", 8: "4", 10: "8", 14: _ANY},
    "SparsityParameters": {4: "4", 6: "4", 8: "[DimensionMetadata]"},
    "DimensionMetadata": {10: _ANY, 14: _ANY},
    "Operator": {6: "4", 8: "4", 12: _ANY, 14: _BYTES, 18: _BYTES, 20: "4", 28: _ANY},
    "Buffer": {4: _BYTES},
    "Metadata": {4: _TEXT},
    "SignatureDef": {4: "[TensorMap]", 6: "[TensorMap]", 8: _TEXT},
    "TensorMap": {4: _TEXT},
    _ANY: {},
}
"""The target of each offset by its place in the table's vtable (schema.fbs: 4 + 2 * id): a text,
numbers of the given width in bytes, a table, or a vector of tables.  Other fields are numbers, or
are checked where they are read (the options of operators)."""

_TIMES, _SPARE = 4, 1 << 16
"""Tables may share vectors and texts, but a file that uses each of them many times would fill the
memory: their total size may be at most this multiple of the file's size, and the spare."""


def verify(view: memoryview) -> None:
    """Check every offset of a .tflite file.

    Args:
        view: The whole file.

    Raises:
        ValueError: An offset leads outside, or the tables claim more than the file can hold.
    """
    _Verifier(view).table(_offset(view, 0), "Model")


def _offset(view: memoryview, at: int) -> int:
    """Return the target of the offset at ``at``, which itself lies inside the file."""
    return at + int(_OFFSET.unpack_from(view, at)[0])


class _Verifier:
    """Walks through the tables and counts their size."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._size = view, len(view)
        self._left = _TIMES * len(view) + _SPARE

    def table(self, at: int, name: str) -> None:
        """Check one table and everything that it refers to."""
        self._inside(at, _VTABLE.size, name)
        vtable = at - int(_VTABLE.unpack_from(self._view, at)[0])
        self._inside(vtable, 4, f"the layout of {name}")
        length = _SHORT.unpack_from(self._view, vtable)[0]
        size = _SHORT.unpack_from(self._view, vtable + 2)[0]
        self._inside(vtable, length, f"the layout of {name}")
        self._inside(at, size, name)
        self._take(size + length)
        if length < 4 or length % 2:
            raise ValueError(f"the layout of {name} at byte {vtable} is {length} bytes long")
        fields = struct.unpack_from(f"<{(length - 4) // 2}H", self._view, vtable + 4)
        wrong = next((f for f in fields if f and f >= size), None)
        if wrong is not None:
            raise ValueError(f"a field of {name} at byte {at} lies {wrong} bytes in, of {size}")
        for place, kind in _TABLES[name].items():
            number = (place - 4) // 2
            if number < len(fields) and fields[number]:
                self._field(at + fields[number], kind, name)

    def _field(self, at: int, kind: str, owner: str) -> None:
        self._inside(at, _OFFSET.size, owner)
        target = _offset(self._view, at)
        if kind in _TABLES:
            self.table(target, kind)
            return
        self._inside(target, _OFFSET.size, f"a vector of {owner}")
        count = int(_OFFSET.unpack_from(self._view, target)[0])
        first = target + _OFFSET.size
        width = 1 if kind == _TEXT else _WIDTHS.get(kind, _OFFSET.size)
        self._inside(first, count * width, f"a vector of {owner} with {count} entries")
        if kind != _BYTES:  # constants are viewed, never copied
            self._take(count * width)
        if kind.startswith("["):
            for number in range(count):
                self.table(_offset(self._view, first + number * width), kind[1:-1])

    def _inside(self, at: int, size: int, what: str) -> None:
        if at < 0 or at + size > self._size:
            raise ValueError(f"{what} reaches from byte {at} to {at + size} of {self._size}")

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("its tables overlap: together they hold more than the file can")
