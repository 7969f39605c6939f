"""Byte patches of a .tflite flatbuffer: no table is rebuilt, no weight is touched.

A flatbuffer table finds a vector through an unsigned offset that points forward.  A new vector can
therefore be written behind the flatbuffer and the one offset repointed; everything else stays where
it was.  Bytes behind the flatbuffer (``Buffer.offset``, ``Operator.large_custom_options_offset``)
are addressed from the start of the file, so those absolute offsets move with them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfldbg.errors import RewriteError
from tfldbg.rewrite.pieces import Piece, Pieces

_ALIGNMENT = 64
_OUTPUTS_FIELD = 8  # vtable offsets of the fields, from schema.fbs: 4 + 2 * field id
_OPERATORS_FIELD = 10
_SUBGRAPHS_FIELD = 8
_SIGNATURES_FIELD = 18
_BUFFER_OFFSET_FIELD = 6
_LARGE_OPTIONS_FIELD = 22


def replace_outputs(
    data: bytes | memoryview,
    subgraph: int,
    outputs: Sequence[int],
    operator_count: int | None = None,
) -> Pieces:
    """Give a subgraph other outputs and, if asked, fewer operators.

    Args:
        data: A .tflite file that has been read successfully before.
        subgraph: Which subgraph.
        outputs: Tensor indices, the complete new list.
        operator_count: Keep only the first so many operators; None keeps all.

    Returns:
        The changed file, which refers to ``data`` and does not copy it.

    Raises:
        RewriteError: The subgraph's table holds no list of outputs to replace, or what should lie
            behind the tables does not.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    table = model.Subgraphs(subgraph)._tab
    outputs_field = table.Offset(_OUTPUTS_FIELD)
    if outputs_field == 0:
        raise RewriteError(
            f"subgraph {subgraph} has no list of outputs, so nothing can be exposed in it",
            hint="convert the model again with at least one output",
        )
    absolute = _absolute_offsets(model)
    end = min((value for _, value in absolute), default=len(data))
    vector = struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    start = -(-end // _ALIGNMENT) * _ALIGNMENT if not absolute else end
    position = table.Pos + outputs_field
    length_at = None
    if operator_count is not None:
        operators = table.Pos + table.Offset(_OPERATORS_FIELD)
        length_at = operators + struct.unpack_from("<I", data, operators)[0]
    last = max(position, length_at or 0, *(field for field, _ in absolute), 0)
    if not last < end <= len(data):
        raise RewriteError(
            f"bytes that should lie behind the tables begin at byte {end} of {len(data)}, among "
            "the tables",
            hint="convert or download the file again",
        )
    inserted = bytes(start - end) + vector + bytes(-len(vector) % _ALIGNMENT)
    changes = {position: struct.pack("<I", start - position)}
    if length_at is not None:
        changes[length_at] = struct.pack("<I", operator_count)
    for field, value in absolute:
        changes[field] = struct.pack("<Q", value + len(inserted))
    view = memoryview(data)
    return Pieces((*_changed(view[:end], changes), inserted, view[end:]))


def _changed(view: memoryview, changes: Mapping[int, bytes]) -> Iterator[Piece]:
    """Yield the pieces of a view in which some places hold other bytes."""
    done = 0
    for position, value in sorted(changes.items()):
        yield view[done:position]
        yield value
        done = position + len(value)
    yield view[done:]


def place_constants(flatbuffer: bytes, constants: Mapping[int, Piece]) -> Pieces:
    """Put constants behind a flatbuffer.

    Args:
        flatbuffer: A .tflite file whose buffers of these constants state an offset already, which
            is replaced.
        constants: By number of the buffer.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(flatbuffer, 0)
    changes: dict[int, bytes] = {}
    parts: list[Piece] = []
    end = len(flatbuffer)
    for number, constant in constants.items():
        padding = bytes(-end % _ALIGNMENT)
        table = model.Buffers(number)._tab
        field = table.Pos + table.Offset(_BUFFER_OFFSET_FIELD)
        changes[field] = struct.pack("<Q", end + len(padding))
        parts += [padding, constant]
        end += len(padding) + len(Pieces((constant,)))
    changed = b"".join(_changed(memoryview(flatbuffer), changes))  # type: ignore[arg-type]
    return Pieces((changed, *parts))


def keep_subgraph(data: bytes | memoryview, subgraph: int) -> bytes:
    """Make one subgraph the only one, and so the one that runs; signatures are dropped.

    Args:
        data: A .tflite file that has been read successfully before.
        subgraph: Which one; none of its operators may run another subgraph.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    table, kept = model._tab, model.Subgraphs(subgraph)._tab.Pos
    changed = bytearray(data)
    first = table.Vector(table.Offset(_SUBGRAPHS_FIELD))
    # A vector of tables holds forward offsets, and lies before all the tables it points at.
    struct.pack_into("<II", changed, first - 4, 1, kept - first)
    signatures = table.Offset(_SIGNATURES_FIELD)
    if signatures:
        struct.pack_into("<I", changed, table.Vector(signatures) - 4, 0)
    return bytes(changed)


def _absolute_offsets(model: Any) -> list[tuple[int, int]]:
    """Return (position, value) of every field that counts from the start of the file."""
    tables = [(model.Buffers(i)._tab, _BUFFER_OFFSET_FIELD) for i in range(model.BuffersLength())]
    for s in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(s)
        tables += [
            (subgraph.Operators(i)._tab, _LARGE_OPTIONS_FIELD)
            for i in range(subgraph.OperatorsLength())
        ]
    found = []
    for table, field in tables:
        relative = table.Offset(field)
        if relative:
            position = table.Pos + relative
            value = struct.unpack_from("<Q", table.Bytes, position)[0]
            if value > 1:
                found.append((position, value))
    return found
