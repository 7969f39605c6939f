"""Constants of fewer than eight bits, and with a scale for each block."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.graph.model import BufferSpan, Graph, QuantParams, Subgraph, Tensor
from tfldbg.graph.query import constant, real_constant


def _graph(tensors: list[tuple[str, tuple[int, ...], QuantParams | None, bytes]]) -> Graph:
    spans, data, made = [BufferSpan(0, 0, False)], b"", []
    for index, (kind, shape, quant, raw) in enumerate(tensors):
        spans.append(BufferSpan(len(data), len(raw), False))
        made.append(
            Tensor(
                index, "", kind, shape, shape, quant, index + 1, is_variable=False, has_data=True
            )
        )
        data += raw
    subgraph = Subgraph(0, "", tuple(made), (), (), ())
    return Graph(memoryview(data), 3, "", (subgraph,), (), tuple(spans), ())


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=33))
def test_int4_codes_are_unpacked_lowest_bits_first(codes: list[int]) -> None:
    nibbles = [c & 15 for c in codes] + [0] * (len(codes) % 2)
    raw = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    graph = _graph([("INT4", (len(codes),), None, raw)])
    found = constant(graph, graph.main.tensors[0])
    assert found is not None and found.tolist() == codes


@given(st.lists(st.integers(0, 15), min_size=1, max_size=9))
def test_uint4_codes_keep_their_sign(codes: list[int]) -> None:
    nibbles = codes + [0] * (len(codes) % 2)
    raw = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    graph = _graph([("UINT4", (len(codes),), None, raw)])
    found = constant(graph, graph.main.tensors[0])
    assert found is not None and found.tolist() == codes


def test_packed_bytes_of_another_length_are_refused() -> None:
    graph = _graph([("INT4", (5,), None, b"\x21\x43")])
    assert constant(graph, graph.main.tensors[0]) is None


def test_each_block_has_its_scale() -> None:
    params = QuantParams(
        np.empty(0, np.float32), np.zeros(1, np.int64), 0, block_size=2, scale_tensor=1
    )
    scales = np.array([[0.5, 2.0]], np.float16).tobytes()
    graph = _graph(
        [("INT8", (1, 4), params, bytes([1, 2, 3, 4])), ("FLOAT16", (1, 2), None, scales)]
    )
    found = real_constant(graph, graph.main.tensors[0])
    assert found is not None and found.tolist() == [[0.5, 1.0, 6.0, 8.0]]
