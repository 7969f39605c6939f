"""Byte patches of a .tflite flatbuffer that rebuild no table and change no weight.

A flatbuffer table finds a vector through an unsigned offset that points forward.  A new vector can
therefore be written after the flatbuffer and the one offset changed; everything else stays where
it was.  Bytes after the flatbuffer (``Buffer.offset``, ``Operator.large_custom_options_offset``)
are addressed from the start of the file, so those absolute offsets move with them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tfldbg.errors import RewriteError
from tfldbg.rewrite.pieces import Piece, Pieces

_ALIGNMENT = 64
_NO_NAMES: Mapping[int, Mapping[str, int]] = MappingProxyType({})
_OUTPUTS_FIELD = 8  # vtable offsets of the fields, from schema.fbs: 4 + 2 * field id
_OPERATORS_FIELD = 10
_SUBGRAPHS_FIELD = 8
_SIGNATURES_FIELD = 18
_SIGNATURE_OUTPUTS_FIELD = 6
_BUFFER_OFFSET_FIELD = 6
_LARGE_OPTIONS_FIELD = 22


def replace_outputs(
    data: bytes | memoryview,
    subgraph: int,
    outputs: Sequence[int],
    operator_count: int | None = None,
    named: Mapping[int, Mapping[str, int]] = _NO_NAMES,
) -> Pieces:
    """Replace the outputs of a subgraph and, if asked, remove its last operators.

    Args:
        data: A .tflite file that has been read successfully before.
        subgraph: The index of the subgraph.
        outputs: The complete new list of tensor indices.
        operator_count: The number of first operators to keep, or None to keep all.
        named: The new outputs by name, for each signature number; a signature without outputs in
            the file keeps none.

    Returns:
        The changed file, which refers to ``data`` and does not copy it.

    Raises:
        RewriteError: The subgraph's table has no list of outputs to replace, or bytes that belong
            after the tables overlap them.
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
    start = -(-end // _ALIGNMENT) * _ALIGNMENT if not absolute else end
    position = table.Pos + outputs_field
    signatures = list(_signature_outputs(model, named))
    length_at = None
    if operator_count is not None:
        operators = table.Pos + table.Offset(_OPERATORS_FIELD)
        length_at = operators + struct.unpack_from("<I", data, operators)[0]
    fields = (position, length_at or 0, *(at for at, _ in signatures), *(at for at, _ in absolute))
    if not max(fields) < end <= len(data):
        raise RewriteError(
            f"bytes that should lie after the tables begin at byte {end} of {len(data)}, among "
            "the tables",
            hint="convert or download the file again",
        )
    added = bytearray(struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs))
    changes = {position: struct.pack("<I", start - position)}
    for field, names in signatures:
        maps, vector = _tensor_maps(names)
        changes[field] = struct.pack("<I", start + len(added) + vector - field)
        added += maps
    if length_at is not None:
        changes[length_at] = struct.pack("<I", operator_count)
    inserted = bytes(start - end) + added + bytes(-len(added) % _ALIGNMENT)
    changes.update((field, struct.pack("<Q", value + len(inserted))) for field, value in absolute)
    view = memoryview(data)
    return Pieces((*_changed(view[:end], changes), inserted, view[end:]))


def _signature_outputs(
    model: Any, named: Mapping[int, Mapping[str, int]]
) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Yield the position of the outputs of each signature that has any, and the new outputs."""
    for number, names in named.items():
        signature = model.SignatureDefs(number)._tab
        field = signature.Offset(_SIGNATURE_OUTPUTS_FIELD)
        if field:
            yield signature.Pos + field, names


def _tensor_maps(names: Mapping[str, int]) -> tuple[bytes, int]:
    """Return a vector of TensorMap tables with their contents, and its position in those bytes.

    Each table has the fields name (an offset) and tensor_index of schema.fbs, after the offset of
    their layout, which all of them share.
    """
    layout, count = struct.pack("<4H", 8, 12, 4, 8), len(names)
    first = len(layout) + 4 + 4 * count  # of the tables
    text = first + 12 * count
    offsets, tables, texts = bytearray(), bytearray(), bytearray()
    for number, (name, tensor) in enumerate(names.items()):
        table, encoded = first + 12 * number, name.encode()
        offsets += struct.pack("<I", table - len(layout) - 4 - 4 * number)
        tables += struct.pack("<iII", table, text + len(texts) - table - 4, tensor)
        texts += struct.pack("<I", len(encoded)) + encoded + b"\0"
        texts += bytes(-len(texts) % 4)
    return layout + struct.pack("<I", count) + offsets + tables + texts, len(layout)


def _changed(view: memoryview, changes: Mapping[int, bytes]) -> Iterator[Piece]:
    """Yield the pieces of a view with some bytes replaced."""
    done = 0
    for position, value in sorted(changes.items()):
        yield view[done:position]
        yield value
        done = position + len(value)
    yield view[done:]


def place_constants(flatbuffer: bytes, constants: Mapping[int, Piece]) -> Pieces:
    """Add constants after a flatbuffer.

    Args:
        flatbuffer: A .tflite file whose buffers of these constants have an offset already, which
            is replaced.
        constants: The constants by buffer number.
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
    """Make one subgraph the only one, so that it runs; signatures are dropped.

    Args:
        data: A .tflite file that has been read successfully before.
        subgraph: The index of the subgraph; none of its operators may run another subgraph.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    table, kept = model._tab, model.Subgraphs(subgraph)._tab.Pos
    changed = bytearray(data)
    first = table.Vector(table.Offset(_SUBGRAPHS_FIELD))
    # A vector of tables holds forward offsets, and lies before all tables that it points to.
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
