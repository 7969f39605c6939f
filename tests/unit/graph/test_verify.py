"""Offsets that lead outside of the file, and tables that hold more than it can."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.graph.damage import SAMPLE
from tfldbg.errors import ModelError
from tfldbg.graph.load import load_graph

DATA = SAMPLE.read_bytes()
ROOT = struct.unpack_from("<I", DATA)[0]


def _with(position: int, form: str, value: int) -> bytes:
    changed = bytearray(DATA)
    struct.pack_into(form, changed, position, value)
    return bytes(changed)


def _field(table: int, place: int) -> int:
    """Return where a field of a table lies."""
    vtable = table - struct.unpack_from("<i", DATA, table)[0]
    return int(table + struct.unpack_from("<H", DATA, vtable + place)[0])


def _target(position: int) -> int:
    return int(position + struct.unpack_from("<I", DATA, position)[0])


@pytest.mark.parametrize("value", [2**31, 2**32 - 1, len(DATA), len(DATA) - 2])
def test_a_root_outside_of_the_file(value: int) -> None:
    with pytest.raises(ModelError, match=r"is damaged: Model reaches from byte \d+ to"):
        load_graph(_with(0, "<I", value))


@pytest.mark.parametrize("value", [-(2**31), 2**31 - 1, -len(DATA)])
def test_a_layout_outside_of_the_file(value: int) -> None:
    with pytest.raises(ModelError, match="the layout of Model reaches"):
        load_graph(_with(ROOT, "<i", value))


@pytest.mark.parametrize("length", [0, 2, 5])
def test_a_layout_of_an_impossible_length(length: int) -> None:
    vtable = ROOT - struct.unpack_from("<i", DATA, ROOT)[0]
    with pytest.raises(ModelError, match="is damaged: the layout of Model at byte"):
        load_graph(_with(vtable, "<H", length))


def test_a_field_outside_of_its_table() -> None:
    vtable = ROOT - struct.unpack_from("<i", DATA, ROOT)[0]
    with pytest.raises(ModelError, match=r"a field of Model at byte \d+ lies 65000 bytes in"):
        load_graph(_with(vtable + 8, "<H", 65000))


@pytest.mark.parametrize("count", [2**32 - 1, 2**31 - 1, 10**6])
def test_a_vector_that_claims_more_than_the_file(count: int) -> None:
    with pytest.raises(ModelError, match=f"a vector of Model with {count} entries reaches"):
        load_graph(_with(_target(_field(ROOT, 8)), "<I", count))


def test_one_table_named_many_times_over() -> None:
    vector = _target(_field(ROOT, 8))
    subgraph = _target(vector + 4)
    count = 200_000
    start = -(-len(DATA) // 4) * 4
    table = start + 4 + 4 * count  # a copy of the tables behind the vector, so offsets go forward
    entries = [table + subgraph - (start + 4 + 4 * i) for i in range(count)]
    changed = bytearray(DATA) + bytes(start - len(DATA))
    struct.pack_into("<I", changed, _field(ROOT, 8), start - _field(ROOT, 8))
    changed += struct.pack(f"<I{count}I", count, *entries) + DATA
    with pytest.raises(ModelError, match="its tables overlap"):
        load_graph(bytes(changed))


@settings(max_examples=3 * settings.default.max_examples)
@given(
    st.lists(
        st.tuples(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    st.integers(8, len(DATA)),
)
def test_any_bytes_are_read_or_refused(changes: list[tuple[int, bytes]], keep: int) -> None:
    changed = bytearray(DATA)
    for position, content in changes:
        changed[position : position + len(content)] = content
    try:
        load_graph(bytes(changed[:keep]))
    except ModelError as error:
        assert error.hint
