"""Statistics of one recording against another.

An operator's own error shows in the samples in which everything it reads is equal in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.accumulate import Accumulator, TensorStats
from tfldbg.errors import DataError
from tfldbg.reference.capture import Capture, Recorded, in_real_units

if TYPE_CHECKING:
    from tfldbg.match.two_captures import Node, SideBySide
    from tfldbg.progress import Progress

_BATCH_BYTES = 48 << 20
_MOST_SAMPLES = 32
_CODES = frozenset({"INT4", "INT8", "UINT8", "INT16"})
_SAME_FLOAT = 1e-6
"""Difference of floats that count as equal: several roundings to float32.

For what an operator reads it is a share of the largest value, a hundredth of what its own output
may be off by (`tfldbg.diagnose.model.Thresholds.float_relative`): two implementations never yield
the same floats, and without it only the first operator of a float model could be judged.
"""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sides:
    """A tensor in both recordings, in comparable units."""

    reference: Recorded
    tested: Recorded

    @property
    def lsb(self) -> float | None:
        """One step of the reference, real units."""
        return self.reference.scale if not self.reference.is_float else self.tested.scale


@dataclass(frozen=True, slots=True)
class Difference:
    """What was found at one tensor."""

    lsb: float | None
    local: TensorStats | None
    """Over the samples in which everything that its operator reads is equal."""
    local_samples: int
    accumulated: TensorStats | None


def sides(node: Node) -> Sides | str:
    """Return both sides with the scales to use, or why they cannot be compared.

    Codes without a scale take the other side's; where no side has one, a step counts as 1.
    """
    if node.counterpart is None:
        return node.reason or "it is not in the other recording"
    reference, tested = node.counterpart, node.tensor
    coded = reference if tested.is_float else tested
    if reference.is_float != tested.is_float and coded.scale is None:
        return "one recording holds integers without a scale, the other real units"
    if reference.type == tested.type and reference.type in _CODES:
        known = next((r for r in (reference, tested) if r.scale is not None), None)
        step = (1.0, 0) if known is None else (known.scale, known.zero_point)
        reference, tested = (
            replace(r, scale=step[0], zero_point=step[1]) if r.scale is None else r
            for r in (reference, tested)
        )
    return Sides(reference, tested)


def compare_captures(
    reference: Capture, tested: Capture, beside: SideBySide, samples: int, progress: Progress
) -> Mapping[int, Difference]:
    """Compare every tensor; return the differences by key.

    Args:
        reference: The first recording.
        tested: The second.
        beside: How they belong together.
        samples: How many samples to compare.
        progress: Is told of every sample.

    Raises:
        DataError: The inputs differ: the runs are not of the same data.
        CaptureError: A file is damaged.
    """
    comparer = _Comparer(reference, tested)
    per_sample = sum(t.elements for side in (reference, tested) for t in side.tensors)
    size = max(1, min(_MOST_SAMPLES, _BATCH_BYTES // (4 * max(per_sample, 1))))
    ranges = [(start, min(start + size, samples)) for start in range(0, samples, size)]
    for node in beside.inputs:
        for start, stop in ranges:
            comparer.check_input(node, start, stop)
    progress.stage("comparing", samples)
    for start, stop in ranges:
        comparer.batch(beside, start, stop)
        progress.advance(stop - start)
    return comparer.found()


class _Comparer:
    def __init__(self, reference: Capture, tested: Capture) -> None:
        self._reference, self._tested = reference, tested
        self._sides: dict[int, Sides | str] = {}
        self._accumulated: dict[int, Accumulator] = {}
        self._local: dict[int, Accumulator] = {}
        self._counts: dict[int, int] = {}

    def check_input(self, node: Node, start: int, stop: int) -> None:
        """Refuse recordings whose inputs differ.

        Raises:
            DataError: They do.
        """
        pair = self._sides_of(node)
        if isinstance(pair, str):
            return
        one, other = self._values(pair, start, stop)
        step = pair.lsb if pair.reference.scale != pair.tested.scale and pair.lsb else 0.0
        near = np.isclose(one, other, rtol=_SAME_FLOAT, atol=0.5 * step, equal_nan=True)
        wrong = np.flatnonzero(~near.reshape(len(near), -1).all(1))
        if wrong.size:
            raise DataError(
                f"the recordings are not of the same data: sample {start + int(wrong[0])} of input "
                f"'{node.tensor.label}' differs by up to {np.abs(one - other)[wrong[0]].max():.4g}",
                hint=f"record '{self._tested.path}' again with the data of "
                f"'{self._reference.path}', in the same order",
            )

    def batch(self, beside: SideBySide, start: int, stop: int) -> None:
        """Add samples ``start`` to ``stop``."""
        count = stop - start
        differs = {node.key: np.zeros(count, np.bool_) for node in beside.inputs}
        for node in beside.written:
            pair = self._sides_of(node)
            if isinstance(pair, str):
                continue
            one, other = self._values(pair, start, stop)
            differs[node.key] = _differing(one, other, pair.lsb is None)
            self._of(self._accumulated, node.key, pair, one).update(one, other, start)
            if node.unrecorded or any(key not in differs for key in node.reads):
                continue
            fed_alike = np.ones(count, np.bool_)
            for key in node.reads:
                fed_alike &= ~differs[key]
            self._add_local(node.key, pair, one, other, fed_alike, start)

    def _add_local(
        self,
        key: int,
        pair: Sides,
        one: NDArray[np.float32],
        other: NDArray[np.float32],
        chosen: Mask,
        start: int,
    ) -> None:
        local = self._of(self._local, key, pair, one)
        self._counts[key] = self._counts.get(key, 0) + int(chosen.sum())
        if chosen.all():
            local.update(one, other, start)
            return
        for sample in np.flatnonzero(chosen):
            here = slice(int(sample), int(sample) + 1)
            local.update(one[here], other[here], start + int(sample))

    def _sides_of(self, node: Node) -> Sides | str:
        if node.key not in self._sides:
            self._sides[node.key] = sides(node)
        return self._sides[node.key]

    def _values(
        self, pair: Sides, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return both sides in real units: (n, ...) float32, shaped as the reference."""
        one = in_real_units(pair.reference, self._reference.stored(pair.reference, start, stop))
        other = in_real_units(pair.tested, self._tested.stored(pair.tested, start, stop))
        return one, other.reshape(one.shape)

    @staticmethod
    def _of(
        known: dict[int, Accumulator], key: int, pair: Sides, values: NDArray[np.float32]
    ) -> Accumulator:
        if key not in known:
            known[key] = Accumulator(values.shape[-1] if values.ndim > 1 else 1, pair.lsb)
        return known[key]

    def found(self) -> dict[int, Difference]:
        """Return the differences seen so far, by key."""
        return {
            key: Difference(
                lsb=pair.lsb if isinstance(pair := self._sides[key], Sides) else None,
                local=self._local[key].result() if self._counts.get(key) else None,
                local_samples=self._counts.get(key, 0),
                accumulated=accumulator.result(),
            )
            for key, accumulator in self._accumulated.items()
        }


def _differing(one: NDArray[np.float32], other: NDArray[np.float32], rounded: bool) -> Mask:
    """Return for each sample whether anything differs; NaN equals NaN.

    Args:
        one: (n, ...) real units.
        other: The same of the other side.
        rounded: Whether the values are floats, whose last bits say nothing.
    """
    first, second = one.reshape(len(one), -1), other.reshape(len(one), -1)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    if rounded:
        sizes = np.where(np.isfinite(first), np.abs(first), 0.0)
        slack = _SAME_FLOAT * sizes.max(1, initial=0.0, keepdims=True)
        with np.errstate(invalid="ignore"):  # infinity minus infinity; they are equal above
            equal |= np.abs(first - second) <= slack
    differing: Mask = ~equal.all(1)
    return differing
