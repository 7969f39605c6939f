"""Detect how recorded values were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.relation import Recording
from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.against.parts.recorded import RecordedTensors
    from tfldbg.graph.model import Subgraph, Tensor

_SAMPLES = 4
_BYTES = 64
"""The number of bytes that two tensors must have in common: 16 floats or 64 codes do not agree by
chance."""
_SEARCHED = 1 << 18
_MOST_TENSORS = 200
"""The largest number of tensors to search, since every pair of tensors is searched."""
_VARIED = 8
"""The number of different bytes among them, so that runs of zeros are not taken for copies."""
_COPYING = SAME_SCALE_KINDS | {
    *("DEQUANTIZE", "QUANTIZE", "UNPACK", "PACK", "SPLIT_V"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "PRELU", "LEAKY_RELU", "ELU", "ABS"),
    *("ADD", "SUB", "MUL", "DIV", "SELECT", "SELECT_V2"),
}
"""Operators that may pass values on unchanged: positive ones through RELU, or a sum with zero."""


def signs_of(values: RecordedTensors) -> Recording:
    """Return the signs in the first samples of a recording.

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
    """Return whether all values are float16 numbers, leaving out arrays of a few values."""
    varied = [a for a in arrays if np.unique(a).size > _VARIED]
    with np.errstate(over="ignore"):
        return bool(varied) and all(
            np.array_equal(a, a.astype(np.float16).astype(a.dtype), equal_nan=True) for a in varied
        )


def _copies(
    values: RecordedTensors, stored: Mapping[int, NDArray[Any]]
) -> Iterator[tuple[int, int]]:
    """Yield each tensor that holds bytes of one that is written later, with the later one.

    It contains the beginning of the later one, or the later one contains its beginning.
    """
    producers = values.subgraph.producers
    written = sorted((i for i in stored if i in producers), key=lambda i: producers[i].index)
    content = {i: stored[i][0].tobytes()[:_SEARCHED] for i in written[:_MOST_TENSORS]}
    heads = {i: raw[:_BYTES] for i, raw in content.items() if _telling(raw[:_BYTES])}
    for place, index in enumerate(content):
        for later in written[place + 1 : _MOST_TENSORS]:
            if _related(values.subgraph, index, later):
                continue
            inside = later in heads and heads[later] in content[index]
            if inside or (index in heads and heads[index] in content[later]):
                yield index, later
                break


def _related(subgraph: Subgraph, one: int, later: int) -> bool:
    """Return whether one tensor may be a copy of the other, or both of a third."""
    sources = _copied(subgraph, later)
    return one in sources or not sources.isdisjoint(_copied(subgraph, one))


def _copied(subgraph: Subgraph, index: int) -> frozenset[int]:
    """Return the tensors whose values may have been copied to a tensor, directly or indirectly."""
    found: set[int] = set()
    stack = [index]
    while stack:
        producer = subgraph.producers.get(stack.pop())
        if producer is not None and producer.kind in _COPYING:
            new = [i for i in producer.inputs if i >= 0 and i not in found]
            found.update(new)
            stack += new
    return frozenset(found)


def _telling(head: bytes) -> bool:
    return len(head) == _BYTES and np.unique(np.frombuffer(head, np.uint8)).size >= _VARIED


def how_made(tensor: Tensor, given: NDArray[np.float32], recorded: NDArray[Any]) -> str | None:
    """Return the cast that makes the recorded codes from the given real values.

    Args:
        tensor: The quantized input.
        given: The real values (n, ...).
        recorded: The codes (n, ...).

    Returns:
        `QUANTIZED`, the end of a sentence about another cast, or None if no known cast makes them.
    """
    affine = tensor.affine
    if affine is None or given.dtype.kind != "f":
        return None
    real = given.astype(np.float64).reshape(-1)
    codes = recorded.reshape(-1)
    for said, make in _CASTS.items():
        for fit in (_clipped, _wrapped):
            # The recorder divided in float32: a value near an edge may be on either side.
            sides = [
                fit(tensor, make(real + e * affine.scale, affine.scale, affine.zero_point))
                for e in (-_EDGE, _EDGE)
            ]
            if ((sides[0] == codes) | (sides[1] == codes)).all():
                return said
    return None


QUANTIZED = "the data quantized"
_EDGE = 1e-4
"""The error in steps of float32 division of up to 255 steps, and of subtraction: 3 x 255 x 2**-24
is 5e-5."""
_Cast = Callable[[NDArray[np.float64], float, int], NDArray[np.float64]]
_CASTS: Mapping[str, _Cast] = {
    QUANTIZED: lambda x, scale, zero: np.round(x / scale) + zero,
    "the data cut off instead of rounded": lambda x, scale, zero: np.trunc(x / scale + zero),
    "the data rounded down": lambda x, scale, zero: np.floor(x / scale + zero),
    "the data cut off before the zero point was added": lambda x, scale, zero: (
        np.trunc(x / scale) + zero
    ),
    "the data without the zero point": lambda x, scale, zero: np.round(x / scale),
    "the data itself, cast to integers without scale and zero point": lambda x, scale, zero: (
        np.trunc(x)
    ),
    "the data itself, rounded without scale and zero point": lambda x, scale, zero: np.round(x),
}
"""The casts, in the order of preference if several make the same codes."""


def _clipped(tensor: Tensor, codes: NDArray[np.float64]) -> NDArray[Any]:
    return np.clip(codes, *code_range(tensor.type))


def _wrapped(tensor: Tensor, codes: NDArray[np.float64]) -> NDArray[Any]:
    low, high = code_range(tensor.type)
    wrapped: NDArray[Any] = (codes - low) % (high - low + 1) + low
    return wrapped
