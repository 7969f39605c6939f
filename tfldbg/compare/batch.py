"""The values of one batch of samples on both sides, in comparable form."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
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


class RealValues(Mapping[int, "Floats"]):
    """The values of tensors in real units, without empty tensors; each is computed when it is read.

    Args:
        tensors: The tensors of the subgraph.
        codes: The values (n, ...) as stored, by tensor.
    """

    def __init__(self, tensors: Sequence[Tensor], codes: Mapping[int, NDArray[Any]]) -> None:
        self._tensors, self._codes = tensors, codes
        self._made: dict[int, Floats] = {}

    def __getitem__(self, index: int) -> Floats:
        """Return the values (n, ...) of a tensor."""
        if index not in self._made:
            if index not in self:
                raise KeyError(index)
            self._made[index] = in_real_units(self._tensors[index], self._codes[index])
        return self._made[index]

    def first(self, count: int) -> RealValues:
        """Return the values of the first samples."""
        return RealValues(self._tensors, {i: v[:count] for i, v in self._codes.items()})

    def __contains__(self, index: object) -> bool:
        """Return whether a tensor has values."""
        codes = self._codes.get(index)  # type: ignore[call-overload]
        return codes is not None and codes.size > 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over the tensors."""
        return (i for i, codes in self._codes.items() if codes.size)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The values of TFLite for one batch of samples, by tensor index; the first axis is samples."""

    start: int
    stop: int
    """The numbers of the first sample and of the one after the last."""
    codes: Mapping[int, NDArray[Any]]
    """TFLite's values: codes if the tensor is quantized; inputs included, without strings."""
    real: Mapping[int, Floats]
    """The values in real units, without empty tensors."""
    stream_steps: int = 1
    """The number of consecutive samples that are the steps of one stream."""
    states: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """The values of the variables before each step, in their own type; empty if all are reset."""
    real_states: Mapping[int, Floats] = field(default_factory=dict)
    """The values of the variables in real units."""

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.stop - self.start

    def first(self, count: int) -> Batch:
        """Return up to ``count`` of its first samples."""
        if count >= self.count:
            return self
        codes, states = ({i: v[:count] for i, v in d.items()} for d in (self.codes, self.states))
        real, real_states = (_first_of(d, count) for d in (self.real, self.real_states))
        stop = self.start + count
        return Batch(self.start, stop, codes, real, self.stream_steps, states, real_states)

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape (n, ...) of the values of a tensor in real units."""
        codes = self.codes[index]
        return (*codes.shape, 2) if codes.dtype.kind == "c" else codes.shape

    def fits(self, index: int, values: NDArray[Any]) -> bool:
        """Return whether values of another side are as many as those of a tensor."""
        codes = self.codes.get(index)
        known = codes is not None and codes.size > 0
        return known and values.size == math.prod(self.shape(index))

    @property
    def fresh(self) -> list[bool]:
        """For each sample, true if a stream begins with it."""
        return [number % self.stream_steps == 0 for number in range(self.start, self.stop)]

    @property
    def given(self) -> tuple[Mapping[int, NDArray[Any]], Mapping[int, Floats]]:
        """All inputs of operators, including states: as stored, and in real units."""
        if not self.states:
            return self.codes, self.real
        codes: Any = ChainMap(self.states, self.codes)  # type: ignore[arg-type]
        real: Any = ChainMap(self.real_states, self.real)  # type: ignore[arg-type]
        return codes, real


def _first_of(real: Mapping[int, Floats], count: int) -> Mapping[int, Floats]:
    """Return the first samples of values in real units."""
    if isinstance(real, RealValues):
        return real.first(count)
    return {i: values[:count] for i, values in real.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """The values of a reference for one batch, by tensor index: (samples, ...), real units."""

    free: Mapping[int, Floats]
    """The free-running reference."""
    local: Mapping[int, Floats]
    """The reference's operators on TFLite's own inputs."""
    tested: Mapping[int, Floats] = field(default_factory=dict)
    """The values to compare ``local`` with, if they are not TFLite's values of this run."""
    clamped: Mapping[int, Floats] = field(default_factory=dict)
    """The free-running reference with all tensors clamped to their ranges."""
    rounded: Mapping[int, Floats] = field(default_factory=dict)
    """The clamped values, also rounded to codes."""
    emulated: Mapping[int, Floats] = field(default_factory=dict)
    """The rounded values of the final outputs only, if the reference is not the file's float
    copy."""
    saturated: Mapping[int, int] = field(default_factory=dict)
    """The number of elements of ``local`` beyond their tensor's range, once they are clamped."""
    fed_alike: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    """The mask (n,) of the samples for which a recorded ``local`` is valid.  It is not clamped."""


def batch_of(
    tensors: Sequence[Tensor],
    numbers: range,
    codes: Mapping[int, NDArray[Any]],
    *,
    stream_steps: int = 1,
    states: Mapping[int, NDArray[Any]] = MappingProxyType({}),
) -> Batch:
    """Return a batch of TFLite's values, with the values in real units.

    Args:
        tensors: The tensors of the subgraph.
        numbers: The numbers of the samples.
        codes: TFLite's values by tensor; the first axis is samples.
        stream_steps: The number of consecutive samples that are the steps of one stream.
        states: The values of the variables before each step.
    """
    start, stop = numbers.start, numbers.stop
    real, real_states = RealValues(tensors, codes), RealValues(tensors, states)
    return Batch(start, stop, codes, real, stream_steps, states, real_states)


def holds_halves(tensors: Sequence[Tensor]) -> bool:
    """Return whether a file has float16 constants."""
    return any(t.type == "FLOAT16" and t.has_data for t in tensors)


def as_halves_end(values: Floats) -> Floats:
    """Return values clamped to the largest float16, as a mask of -1e9 is in such a file."""
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF)


def settled(
    tensors: Sequence[Tensor],
    batch: Batch,
    computed: Computed,
    *,
    clamp: bool = True,
    undecided: Sequence[Comparison] = (),
) -> Computed:
    """Return comparable values: in TFLite's shape, ``local`` clamped to each tensor's range.

    Values of another size than TFLite's are left out: the shapes differ, which is judged
    separately.  In a file with float16 constants both sides are clamped to the largest float16, as
    a mask of -1e9 is there.  The arrays are contiguous, because NumPy's order of summation depends
    on the layout of an array.

    Args:
        tensors: The tensors of the subgraph.
        batch: TFLite's values.
        computed: The reference's values.
        clamp: True to clamp; if false, `Statistics` clamps the values.
        undecided: The operators that compare quantized values.
    """
    local, saturated, own = {}, {}, dict(computed.tested)
    halves = holds_halves(tensors)
    for index, values in computed.local.items():
        shape = own[index].shape if index in own else batch.shape(index)
        if values.size == math.prod(shape):
            local[index] = _in_shape(values, shape)
            if halves and np.abs(local[index]).max(initial=0.0) > _LARGEST_HALF:
                both = (local[index], own.get(index, batch.real[index]))
                local[index], own[index] = map(as_halves_end, both)
            if clamp:
                local[index], saturated[index] = clamped(tensors[index], local[index])
    for comparison in undecided:
        if comparison.output in local:
            local[comparison.output] = comparison.settle(batch, local[comparison.output])
    return replace(
        computed,
        free=fitting(computed.free, batch),
        local=local,
        tested=_contiguous(own),
        clamped=_contiguous(computed.clamped),
        rounded=_contiguous(computed.rounded),
        emulated=_contiguous(computed.emulated),
        saturated=saturated,
    )


def _contiguous(values: Mapping[int, Floats]) -> dict[int, Floats]:
    return {i: np.ascontiguousarray(v) for i, v in values.items()}


def _in_shape(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return values in a shape, contiguous."""
    shaped = values if values.shape == shape else values.reshape(shape)
    return shaped if shaped.flags.c_contiguous else np.ascontiguousarray(shaped)


def fitting(values: Mapping[int, Floats], batch: Batch) -> dict[int, Floats]:
    """Return the values of tensors that have as many as TFLite, in TFLite's shape, contiguous."""
    return {i: _in_shape(v, batch.shape(i)) for i, v in values.items() if batch.fits(i, v)}


def in_real_units(tensor: Tensor, codes: NDArray[Any]) -> Floats:
    """Return a tensor's values (n, ...) in real units, float32."""
    affine = tensor.affine
    return as_floats(codes) if affine is None else affine.dequantize(codes)


def as_floats(values: NDArray[Any]) -> Floats:
    """Return numbers as float32; complex numbers get a last axis of real and imaginary parts."""
    if values.dtype.kind == "c":
        values = np.stack((values.real, values.imag), axis=-1)
    return values.astype(np.float32, copy=False)


def clamped(tensor: Tensor, values: Floats) -> tuple[Floats, int]:
    """Return values clamped to the tensor's range, and the number more than a step beyond it."""
    limits = code_limits(tensor)
    return (values, 0) if limits is None else loops.clamp(values, limits)


def code_limits(tensor: Tensor) -> loops.Range | None:
    """Return the range of a tensor's codes, None for float tensors."""
    affine = tensor.affine
    if affine is None:
        return None
    low, high = affine.real_range(tensor.type)
    step = 1.001 * affine.scale  # SOFTMAX has 1.0, a step beyond its range
    return loops.Range(low, high, step)
