"""What recorded values give away about how they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.against_capture import RecordedTensors
from tfldbg.compare.relation import Recording
from tfldbg.graph.model import Operator, Subgraph, Tensor
from tfldbg.graph.query import SAME_SCALE_KINDS, producers
from tfldbg.quant import code_range, quantize

_SAMPLES = 4
_BYTES = 64
"""Bytes that two tensors must have in common: no chance makes 16 floats or 64 codes agree."""
_SEARCHED = 1 << 18
_MOST_TENSORS = 200
"""What is looked through of a recording: every pair of tensors is, so that the time is bounded."""
_VARIED = 8
"""Different values among them, so that runs of zeros are not taken for copies."""
_COPYING = SAME_SCALE_KINDS | {
    *("DEQUANTIZE", "QUANTIZE", "UNPACK", "PACK", "SPLIT_V"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "PRELU", "LEAKY_RELU", "ELU", "ABS"),
    *("ADD", "SUB", "MUL", "DIV", "SELECT", "SELECT_V2"),
}
"""Operators that may hand values on as they are: positive ones through RELU, or a sum with zero."""


def signs_of(values: RecordedTensors) -> Recording:
    """Look at the first samples of a recording.

    Args:
        values: The recording as the traced file's tensors.

    Raises:
        CaptureError: It is damaged.
    """
    count = min(_SAMPLES, values.capture.samples)
    stored = {
        index: values.capture.stored(recorded, 0, count)
        for index, recorded in values.recorded.items()
        if index not in values.subgraph.inputs
    }
    floats = [v for i, v in stored.items() if values.recorded[i].is_float]
    return Recording(_half_precision(floats), tuple(_copies(values, stored)))


def _half_precision(arrays: list[NDArray[Any]]) -> bool:
    """Whether every value is a float16 number, and they are no mere handful of round ones."""
    varied = [a for a in arrays if np.unique(a).size > _VARIED]
    with np.errstate(over="ignore"):
        return bool(varied) and all(
            np.array_equal(a, a.astype(np.float16).astype(a.dtype), equal_nan=True) for a in varied
        )


def _copies(
    values: RecordedTensors, stored: Mapping[int, NDArray[Any]]
) -> Iterator[tuple[int, int]]:
    """Yield each tensor that holds bytes of one that is written later, with that one.

    The later one's beginning lies somewhere in it, or its own beginning in the later one.
    """
    writers = producers(values.subgraph)
    written = sorted((i for i in stored if i in writers), key=lambda i: writers[i].index)
    content = {i: stored[i][0].tobytes()[:_SEARCHED] for i in written[:_MOST_TENSORS]}
    heads = {i: raw[:_BYTES] for i, raw in content.items() if _telling(raw[:_BYTES])}
    for place, index in enumerate(content):
        for later in written[place + 1 : _MOST_TENSORS]:
            if _related(values.subgraph, writers, index, later):
                continue
            inside = later in heads and heads[later] in content[index]
            if inside or (index in heads and heads[index] in content[later]):
                yield index, later
                break


def _related(subgraph: Subgraph, writers: Mapping[int, Operator], one: int, later: int) -> bool:
    """Whether one tensor's values may be in the other, or both have them from a third."""
    sources = _copied(subgraph, writers, later)
    return one in sources or not sources.isdisjoint(_copied(subgraph, writers, one))


def _copied(subgraph: Subgraph, writers: Mapping[int, Operator], index: int) -> frozenset[int]:
    """Return the tensors whose values an operator, and those before it, may have copied there."""
    found: set[int] = set()
    stack = [index]
    while stack:
        writer = writers.get(stack.pop())
        if writer is not None and writer.kind in _COPYING:
            new = [i for i in writer.inputs if i >= 0 and i not in found]
            found.update(new)
            stack += new
    return frozenset(found)


def _telling(head: bytes) -> bool:
    return len(head) == _BYTES and np.unique(np.frombuffer(head, np.uint8)).size >= _VARIED


def cast_of(tensor: Tensor, given: NDArray[np.float32], recorded: NDArray[Any]) -> str | None:
    """Say what, other than quantization, makes recorded codes of the given real values.

    Args:
        tensor: The quantized input.
        given: (n, ...) real values.
        recorded: (n, ...) codes.

    Returns:
        The end of a sentence about the codes, None where nothing known makes them, or where they
        are what quantization makes.
    """
    if tensor.lsb is None or tensor.zero_point is None or given.dtype.kind != "f":
        return None
    wanted = quantize(given, tensor.lsb, tensor.zero_point, tensor.type)
    if np.array_equal(wanted.reshape(-1), recorded.reshape(-1)):
        return None
    steps = given.astype(np.float64).reshape(-1) / tensor.lsb
    for said, make in _CASTS.items():
        for fit in (_clipped, _wrapped):
            made = fit(tensor, make(given.astype(np.float64).reshape(-1), steps, tensor.zero_point))
            if np.array_equal(made, recorded.reshape(-1)):
                return said
    return None


_Cast = Callable[[NDArray[np.float64], NDArray[np.float64], int], NDArray[np.float64]]
_CASTS: Mapping[str, _Cast] = {
    "the data cut off instead of rounded": lambda x, steps, zero: np.trunc(steps + zero),
    "the data rounded down": lambda x, steps, zero: np.floor(steps + zero),
    "the data cut off before the zero point was added": lambda x, steps, zero: (
        np.trunc(steps) + zero
    ),
    "the data without the zero point": lambda x, steps, zero: np.round(steps),
    "the data itself, cast to integers without scale and zero point": lambda x, steps, zero: (
        np.trunc(x)
    ),
    "the data itself, rounded without scale and zero point": lambda x, steps, zero: np.round(x),
}


def _clipped(tensor: Tensor, codes: NDArray[np.float64]) -> NDArray[Any]:
    return np.clip(codes, *code_range(tensor.type))


def _wrapped(tensor: Tensor, codes: NDArray[np.float64]) -> NDArray[Any]:
    low, high = code_range(tensor.type)
    wrapped: NDArray[Any] = (codes - low) % (high - low + 1) + low
    return wrapped
