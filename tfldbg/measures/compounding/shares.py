"""The results about the compounding of errors, and the sums that they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.metrics import root_mean_square

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph
    from tfldbg.reference.evaluate import Floats

Doubles = NDArray[np.float64]
Item = tuple[str, int]
"""An item that can be removed from a replay: ``("op", index)`` or ``("input", tensor)``."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a difference."""

    rmse: float
    """Root mean square over all elements and samples, real units."""
    rmse_lsb: float | None
    """The same in steps of the tensor's scale, or None for float tensors."""
    relative: float | None
    """``rmse`` divided by the root mean square of the reference, or None if that is zero."""


@dataclass(frozen=True, slots=True)
class FinalError:
    """The error of one final tensor."""

    tensor: int = field(metadata={"json": "tensor_index"})
    """The tensor's index in the same subgraph."""
    name: str = field(metadata={"json": "tensor"})
    """The tensor's name."""
    error: Size
    """Its error."""


@dataclass(frozen=True, slots=True)
class OpShare:
    """The contribution of one operator, or one input of the model, to the final error."""

    op: int | None
    """The operator's index in the main subgraph of the original file. None for an input of the
    model."""
    kind: str
    """The operator's kind; INPUT for an input of the model."""
    tensor: int = field(metadata={"json": "tensor_index"})
    """Index, in the same subgraph, of the tensor that it writes; the sizes are of this tensor."""
    name: str = field(metadata={"json": "tensor"})
    """Name of that tensor."""
    own: Size | None
    """The difference between the operator and the reference on the inputs that it had."""
    clipped: Size | None
    """The part of ``own`` that is saturation: the reference's value is beyond the range."""
    inherited: Size | None
    """The difference that the reference's operator computes from that of the inputs; None for
    inputs of the model."""
    accumulated: Size | None
    """Own plus inherited: TFLite's value minus that of the free-running reference."""
    amplification: float | None
    """``inherited.relative`` divided by the relative size of the inputs' accumulated errors with
    added energies, or None if the inputs have no error."""
    share: float | None
    """The part of the final error, along its direction, that disappears when the operator makes no
    error of its own: 1 is all of it; a negative share means that the error cancels others.  None
    if it was not measured."""
    left: float | None
    """The RMSE of the final error without this operator's own error, divided by that with it."""
    reason: str | None
    """The reason why the share was not measured."""
    joint: tuple[int, ...]
    """The operators whose errors these are, if they only have a counterpart together."""
    misread_by: tuple[int, ...]
    """The operators that compute wrong values because this one's output has other parameters than
    the reference's; their errors count here."""


@dataclass(frozen=True, slots=True)
class Compounding:
    """The contribution of every operator to the error of the final outputs."""

    samples: int
    """The number of samples, the first ones, on which this was measured; 0 if it was not
    possible."""
    finals: tuple[FinalError, ...] = field(metadata={"json": "final"})
    """The final errors."""
    shares: tuple[OpShare, ...] = field(metadata={"json": "ops"})
    """Inputs of the model first, then the operators in execution order."""
    interaction: float | None
    """1 minus the sum of the measured shares: the effect of errors in combination, and of those
    that were not measured; None if there is no final error."""
    replay_error: float
    """The RMSE of the replay with all errors against TFLite's own outputs, divided by the RMSE of
    the final error: the accuracy of the shares."""
    notes: tuple[str, ...]
    """Notes for the user about parts that could not be measured."""

    @property
    def largest(self) -> OpShare | None:
        """The operator or input with the largest share, or None if none was measured."""
        measured = [s for s in self.shares if s.share is not None]
        return max(measured, key=lambda s: s.share or 0.0, default=None)

    @property
    def unmeasured(self) -> tuple[OpShare, ...]:
        """The operators and inputs without a share."""
        return tuple(s for s in self.shares if s.share is None)


class Ledger:
    """Energies of differences by tensor, over any number of batches.

    Args:
        subgraph: The subgraph of the tensors.
    """

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph
        self._energy: dict[tuple[str, int], float] = {}
        self._count: dict[tuple[str, int], int] = {}

    def add(self, kind: str, values: Mapping[int, Floats]) -> None:
        """Add differences of one kind; values that are not finite are left out."""
        for index, array in values.items():
            finite = array[np.isfinite(array)].astype(np.float64)
            key = (kind, index)
            self._energy[key] = self._energy.get(key, 0.0) + float(finite @ finite)
            self._count[key] = self._count.get(key, 0) + finite.size

    def energy(self, kind: str, tensors: Sequence[int]) -> float | None:
        """Return the sum of squares over several tensors, or None if one of them is unknown."""
        found = [self._energy.get((kind, index)) for index in tensors]
        return None if None in found else math.fsum(e for e in found if e is not None)

    def size(self, kind: str, tensor: int) -> Size | None:
        """Return the size of one kind of difference, or None if there is none."""
        key = (kind, tensor)
        if key not in self._energy:
            return None
        signal = self._energy.get(("free", tensor), 0.0)
        rmse = root_mean_square(self._energy[key], self._count[key])
        lsb = self._subgraph.tensors[tensor].lsb
        relative = math.sqrt(self._energy[key] / signal) if signal > 0 else None
        return Size(rmse, rmse / lsb if lsb else None, relative)


class Shares:
    """Sums over samples from which the shares are computed, one per final tensor.

    All final tensors have the same weight: each is measured relative to the mean square of the
    reference's values (of its error, if these are zero).
    """

    def __init__(self, finals: int) -> None:
        self._error, self._signal, self._off = (np.zeros(finals) for _ in range(3))
        self._size = np.zeros(finals)
        self._common: dict[Item, Doubles] = {}
        self._left: dict[Item, Doubles] = {}

    def begin(
        self, error: Sequence[Doubles], free: Sequence[Doubles], off: Sequence[Doubles]
    ) -> None:
        """Add one sample.

        Args:
            error: TFLite's value minus the reference's, by final tensor.
            free: The reference's value.
            off: The replay's value minus TFLite's.
        """
        self._error += _energies(error)
        self._signal += _energies(free)
        self._off += _energies(off)
        self._size += [e.size for e in error]

    def add(self, item: Item, error: Sequence[Doubles], part: Sequence[Doubles]) -> None:
        """Add the change of one sample's final error without the item's own error."""
        common = [float(np.vdot(e, p)) for e, p in zip(error, part, strict=True)]
        left = _energies([e - p for e, p in zip(error, part, strict=True)])
        zeros = np.zeros(len(self._error))
        self._common[item] = self._common.get(item, zeros) + common
        self._left[item] = self._left.get(item, zeros) + left

    def keep_largest(self, count: int) -> frozenset[Item]:
        """Keep this many items with the largest shares; return the others."""
        weights = self._weights
        size = {i: abs(float(weights @ common)) for i, common in self._common.items()}
        forgotten = sorted(size, key=lambda i: -size[i])[count:]
        for item in forgotten:
            del self._common[item], self._left[item]
        return frozenset(forgotten)

    @property
    def total(self) -> float:
        """The weighted energy of the final error."""
        return float(self._weights @ self._error)

    @property
    def replay_error(self) -> float:
        """The RMSE of the replay divided by that of the final error, 0 if there is no error."""
        off = float(self._weights @ self._off)
        return math.sqrt(off / self.total) if self.total > 0 else 0.0

    def of(self, item: Item) -> tuple[float, float] | None:
        """Return the share and the remaining error of an item, or None if they are unknown."""
        if item not in self._common or not self.total > 0:
            return None
        share = float(self._weights @ self._common[item]) / self.total
        return share, math.sqrt(float(self._weights @ self._left[item]) / self.total)

    def final(self, number: int, lsb: float | None) -> Size:
        """Return the error of one final tensor."""
        rmse = root_mean_square(float(self._error[number]), int(self._size[number]))
        signal = float(self._signal[number])
        relative = math.sqrt(float(self._error[number]) / signal) if signal > 0 else None
        return Size(rmse, rmse / lsb if lsb else None, relative)

    @property
    def _weights(self) -> Doubles:
        base = np.where(self._signal > 0, self._signal, self._error)
        return np.divide(1.0, base, out=np.zeros_like(base), where=base > 0)


def _energies(arrays: Sequence[Doubles]) -> Doubles:
    return np.array([float(np.vdot(a, a)) for a in arrays])
