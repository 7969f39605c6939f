"""What one batch of samples holds on both sides, brought together so that it can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops

if TYPE_CHECKING:
    from tfldbg.compare.undecided import Comparison
    from tfldbg.graph.model import Tensor
    from tfldbg.reference.evaluate import Floats

_LARGEST_HALF = 65504.0
"""The largest float16 (IEEE 754)."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What TFLite made of one batch of samples, by tensor index; first axis samples."""

    start: int
    stop: int
    """Numbers of the first sample and of the one after the last."""
    codes: Mapping[int, NDArray[Any]]
    """TFLite's own values, codes where the tensor is quantized; inputs included, no strings."""
    real: Mapping[int, Floats]
    """The same in real units, without what has no elements."""
    stream_steps: int = 1
    """How many samples in a row are the steps of one stream."""
    states: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """What the variables held before each step, in their own type; empty where all are reset."""
    real_states: Mapping[int, Floats] = field(default_factory=dict)
    """The same in real units."""

    @property
    def fresh(self) -> list[bool]:
        """By sample whether a stream begins with it."""
        return [number % self.stream_steps == 0 for number in range(self.start, self.stop)]

    @property
    def given(self) -> tuple[dict[int, NDArray[Any]], dict[int, Floats]]:
        """All that operators read, states included: as stored, and in real units."""
        return {**self.codes, **self.states}, {**self.real, **self.real_states}


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What a reference made of one batch, by tensor index; first axis samples, real units."""

    free: Mapping[int, Floats]
    """The free-running reference."""
    local: Mapping[int, Floats]
    """The reference's operators on TFLite's own inputs."""
    tested: Mapping[int, Floats] = field(default_factory=dict)
    """What to compare ``local`` with where it is not what TFLite computed in this run."""
    clamped: Mapping[int, Floats] = field(default_factory=dict)
    """The free-running reference with every tensor clamped to its range."""
    rounded: Mapping[int, Floats] = field(default_factory=dict)
    """The same, rounded to codes too."""
    emulated: Mapping[int, Floats] = field(default_factory=dict)
    """The same for the final outputs alone, where the reference is not the file's float copy."""
    saturated: Mapping[int, int] = field(default_factory=dict)
    """How many elements of ``local`` lay beyond their tensor's range, once they are clamped."""
    fed_alike: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    """The samples that ``local`` holds for, where it was recorded: (n,).  It is not clamped."""


def batch_of(
    tensors: Sequence[Tensor],
    numbers: range,
    codes: Mapping[int, NDArray[Any]],
    *,
    stream_steps: int = 1,
    states: Mapping[int, NDArray[Any]] = MappingProxyType({}),
) -> Batch:
    """Return a batch of what TFLite made, with the same in real units.

    Args:
        tensors: Of the subgraph.
        numbers: Of the samples.
        codes: TFLite's own values by tensor; first axis samples.
        stream_steps: How many samples in a row are the steps of one stream.
        states: What the variables held before each step.
    """

    def real(values: Mapping[int, NDArray[Any]]) -> dict[int, Floats]:
        return {i: in_real_units(tensors[i], v) for i, v in values.items() if v.size}

    start, stop = numbers.start, numbers.stop
    return Batch(start, stop, codes, real(codes), stream_steps, states, real(states))


def holds_halves(tensors: Sequence[Tensor]) -> bool:
    """Whether a file has float16 constants."""
    return any(t.type == "FLOAT16" and t.has_data for t in tensors)


def as_halves_end(values: Floats) -> Floats:
    """Return values that end at the largest float16, as a mask of -1e9 does in such a file."""
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF)


def settled(
    tensors: Sequence[Tensor],
    batch: Batch,
    computed: Computed,
    *,
    clamp: bool = True,
    undecided: Sequence[Comparison] = (),
) -> Computed:
    """Return what can be compared: in TFLite's shape, ``local`` clamped to each tensor's range.

    Values of another size than TFLite's are left out: the shapes themselves differ, and that is
    judged by itself.  In a file with float16 constants both sides end at the largest float16, which
    is what a mask of -1e9 has become there.  The arrays are contiguous, because the order in which
    NumPy adds up depends on how an array is laid out.

    Args:
        tensors: Of the subgraph.
        batch: What TFLite made.
        computed: What the reference made of it.
        clamp: Whether to clamp; `Statistics` does it by itself where that is left to it.
        undecided: The operators that compare quantized values.
    """
    local, saturated, own = {}, {}, dict(computed.tested)
    halves = holds_halves(tensors)
    for index, values in computed.local.items():
        tested = own.get(index, batch.real[index])
        if values.size == tested.size:
            local[index] = np.ascontiguousarray(values.reshape(tested.shape))
            if halves and np.abs(local[index]).max(initial=0.0) > _LARGEST_HALF:
                local[index], own[index] = (as_halves_end(v) for v in (local[index], tested))
            if clamp:
                local[index], saturated[index] = clamped(tensors[index], local[index])
    for comparison in undecided:
        if comparison.output in local:
            local[comparison.output] = comparison.settle(batch, local[comparison.output])
    return replace(
        computed,
        free=_contiguous(fitting(computed.free, batch.real)),
        local=local,
        tested=_contiguous(own),
        clamped=_contiguous(computed.clamped),
        rounded=_contiguous(computed.rounded),
        emulated=_contiguous(computed.emulated),
        saturated=saturated,
    )


def _contiguous(values: Mapping[int, Floats]) -> dict[int, Floats]:
    return {i: np.ascontiguousarray(v) for i, v in values.items()}


def fitting(values: Mapping[int, Floats], real: Mapping[int, Floats]) -> dict[int, Floats]:
    """Return the values that are as many as TFLite's, in TFLite's shape."""
    return {i: v.reshape(real[i].shape) for i, v in values.items() if v.size == real[i].size}


def in_real_units(tensor: Tensor, codes: NDArray[Any]) -> Floats:
    """Return a tensor's values (n, ...) in real units, float32."""
    affine = tensor.affine
    return as_floats(codes) if affine is None else affine.dequantize(codes)


def as_floats(values: NDArray[Any]) -> Floats:
    """Return numbers as float32; of complex ones real and imaginary part, along a last axis."""
    if values.dtype.kind == "c":
        values = np.stack((values.real, values.imag), axis=-1)
    return values.astype(np.float32, copy=False)


def clamped(tensor: Tensor, values: Floats) -> tuple[Floats, int]:
    """Clamp to the tensor's range; count what lies more than a step beyond it."""
    limits = code_limits(tensor)
    return (values, 0) if limits is None else loops.clamp(values, limits)


def code_limits(tensor: Tensor) -> loops.Range | None:
    """Return what a tensor's codes can stand for; None for float tensors."""
    affine = tensor.affine
    if affine is None:
        return None
    low, high = affine.real_range(tensor.type)
    step = 1.001 * affine.scale  # SOFTMAX yields 1.0, a step beyond its range
    return loops.Range(low, high, step)
