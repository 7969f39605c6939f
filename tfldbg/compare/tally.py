"""Count the batches of a stream, and merge the counts of parts of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.accumulate import Accumulator, TensorStats
from tfldbg.compare.batch import Batch, Computed, code_limits, fitting, in_real_units
from tfldbg.compare.custom import MetricCounter
from tfldbg.compare.merging import merge_all
from tfldbg.compare.outputs import Finals, OutputStatistics, Wanted
from tfldbg.compare.sides import EMULATION, REFERENCE, TFLITE
from tfldbg.compare.usage import BeyondCounter, Usage, UsageCounter
from tfldbg.errors import RunError
from tfldbg.loops import REAL, Stored

if TYPE_CHECKING:
    from tfldbg.compare.undecided import Comparison
    from tfldbg.graph.model import Subgraph
    from tfldbg.loops import Range
    from tfldbg.options.sources import Metric
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.samples import Samples

_COUNTED = frozenset({"INT4", "INT8", "UINT8", "INT16"})
_CHARACTERS = {"INT8": "b", "UINT8": "B", "INT16": "h"}
"""The characters in `Stored` of the types that are compared as they are."""


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of the accumulated error of a tensor, RMSE in LSB."""

    saturation: float
    """The error of clamping to each tensor's range: float against clamped float arithmetic."""
    rounding: float
    """The error of rounding to codes: clamped against rounded float arithmetic."""
    kernel: float
    """The error of the kernels: rounded float arithmetic against integer kernels."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The outcome of a stream."""

    local: Mapping[int, TensorStats]
    accumulated: Mapping[int, TensorStats]
    local_counters: Mapping[int, Accumulator]
    """The accumulators of ``local``; `Accumulator.channels` returns more, but is slow."""
    accumulated_counters: Mapping[int, Accumulator]
    split: Mapping[int, Split]
    nan: Mapping[int, int]
    """The number of NaN among TFLite's values, for tensors with any."""
    ranges: Mapping[int, float]
    """The largest magnitude of TFLite's values by tensor, real units."""
    shapes: Mapping[int, tuple[int, ...]]
    """The shape of each tensor in TFLite."""
    outputs: tuple[tuple[bytes, ...], ...]
    """The bytes of the model's outputs for the first samples."""
    reference_s: float
    usage: Mapping[int, Usage]
    """The codes that TFLite computed, by quantized tensor."""
    beyond: Mapping[int, float]
    """The share of the given values, zeros left out, beyond the range of each quantized input."""
    finals: Finals = field(default_factory=Finals)
    """The final outputs."""


NOTHING = Measured({}, {}, {}, {}, {}, {}, {}, {}, (), 0.0, {}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The requested measurements of a stream."""

    subgraph: Subgraph
    read: tuple[int, ...]
    """The tensors that the runner returns, in its order."""
    observed: int
    """The number of samples for which to keep the bytes of the outputs."""
    wanted: Wanted = field(default_factory=Wanted)
    """The requested measurements of the final outputs."""
    histograms: bool = False
    """True to count histograms of the errors."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """The user's own metrics, by name."""
    undecided: tuple[Comparison, ...] = ()
    """The operators that compare quantized values."""
    usage: bool = True
    """True to measure the tested values themselves: their codes, and NaN."""


class Statistics:
    """The accumulators of all tensors."""

    def __init__(self, plan: Plan) -> None:
        self._tensors = plan.subgraph.tensors
        self._histograms = plan.histograms
        self._metrics = plan.metrics
        self._noted = plan.usage
        self._names = _activations(plan.subgraph) if plan.metrics else {}
        self._accumulated: dict[int, Accumulator] = {}
        self._local: dict[int, Accumulator] = {}
        self._split: dict[int, _Divided] = {}
        self._floats: dict[int, _Magnitude] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._usage: dict[int, UsageCounter] = {}
        self._forms: dict[int, Stored | None] = {}
        self._ranges: dict[int, Range | None] = {}

    def count(self, batch: Batch, computed: Computed | None) -> None:
        """Count a batch.

        Args:
            batch: TFLite's values.
            computed: The reference's `settled` values, None without a reference.
        """
        if self._noted:
            for index in batch.real:
                self._see(index, batch)
        if computed is not None:
            self._compare_sides(batch, computed)

    def _see(self, index: int, batch: Batch) -> None:
        """Measure TFLite's values of a tensor."""
        tensor, codes = self._tensors[index], batch.codes[index]
        self._shapes[index] = codes.shape[1:]
        counter = self._usage.get(index)
        if counter is None and tensor.lsb is not None and tensor.type in _COUNTED:
            counter = self._usage[index] = UsageCounter(tensor.type, self._histograms)
        if counter is not None:
            counter.update(codes)
        else:
            self._floats.setdefault(index, _Magnitude()).update(batch.real[index])

    def _compare_sides(self, batch: Batch, computed: Computed) -> None:
        for index, values in computed.free.items():
            accumulated = self._of(self._accumulated, index, values)
            self._compare(accumulated, index, values, batch)
        for index, values in computed.local.items():
            fed_alike = computed.fed_alike.get(index)
            if fed_alike is not None and not fed_alike.any():
                continue
            tested = computed.tested.get(index)
            local = self._of(self._local, index, values)
            if fed_alike is not None:
                real = batch.real[index] if tested is None else tested
                _update_some(local, values, real, batch.start, fed_alike)
                continue
            saturated = computed.saturated.get(index)
            limits = self._limits(index) if saturated is None else None
            more = (saturated or 0, limits)
            if tested is None:
                self._compare(local, index, values, batch, *more)
            else:
                local.update(values, tested, batch.start, *more)
        for index, rounded in computed.rounded.items():
            if index not in computed.free:
                continue
            if index not in self._split:
                self._split[index] = _Divided(self._tensors[index].lsb)
            some = slice(0, len(rounded))  # of the first samples of a stream
            free, real = computed.free[index][some], batch.real[index][some]
            stages = (free, computed.clamped[index], rounded, real)
            self._split[index].update(*stages)

    def _compare(
        self,
        known: Accumulator,
        index: int,
        values: Floats,
        batch: Batch,
        saturated: int = 0,
        limits: Range | None = None,
    ) -> None:
        """Compare values with TFLite's, as codes if they are stored as codes."""
        form = self._form(index)
        if form is not None and not saturated and known.reads_codes:
            codes = batch.codes[index]
            fits = codes.dtype.char == form.type and values.dtype == np.float32
            if fits and known.update_codes(values, codes, form, batch.start, limits):
                return
        known.update(values, batch.real[index], batch.start, saturated, limits)

    def _limits(self, index: int) -> Range | None:
        """Return the range of a tensor's codes."""
        if index not in self._ranges:
            self._ranges[index] = code_limits(self._tensors[index])
        return self._ranges[index]

    def _form(self, index: int) -> Stored | None:
        """Return the form of a tensor's values if they can be compared as they are."""
        if index not in self._forms:
            tensor, form = self._tensors[index], None
            if tensor.affine is None:
                form = REAL if tensor.type == "FLOAT32" else None
            elif tensor.type in _CHARACTERS:
                form = Stored(_CHARACTERS[tensor.type], *astuple(tensor.affine))
            self._forms[index] = form if form is not None and form.is_read else None
        return self._forms[index]

    def _of(self, known: dict[int, Accumulator], index: int, values: Floats) -> Accumulator:
        if index not in known:
            channels = values.shape[-1] if values.ndim > 1 else 1
            lsb = self._tensors[index].lsb
            known[index] = Accumulator(channels, lsb, self._histograms, self._counters(index))
        return known[index]

    def _counters(self, index: int) -> dict[str, MetricCounter]:
        """Return the counters of the user's metrics, none for shapes and for the model's inputs."""
        where = self._names.get(index)
        if where is None:
            return {}
        return {name: MetricCounter(name, m, where) for name, m in self._metrics.items()}

    def merge(self, other: Statistics) -> None:
        """Add the statistics of another, for the samples after these."""
        merge_all(self._accumulated, other._accumulated)
        merge_all(self._local, other._local)
        merge_all(self._split, other._split)
        merge_all(self._usage, other._usage)
        merge_all(self._floats, other._floats)
        self._shapes = {**other._shapes, **self._shapes}

    def measured(self, outputs: tuple[tuple[bytes, ...], ...], reference_s: float) -> Measured:
        """Return the statistics of all samples so far."""
        usage = {i: u for i, c in self._usage.items() if (u := c.result()) is not None}
        largest = {i: f.largest for i, f in self._floats.items()}
        return Measured(
            local={i: a.result() for i, a in self._local.items()},
            accumulated={i: a.result() for i, a in self._accumulated.items()},
            local_counters=self._local,
            accumulated_counters=self._accumulated,
            split={i: d.result() for i, d in self._split.items()},
            nan={i: f.nan for i, f in self._floats.items() if f.nan},
            ranges={**largest, **{i: self._largest(i, u) for i, u in usage.items()}},
            shapes=self._shapes,
            outputs=outputs,
            reference_s=reference_s,
            usage=usage,
            beyond={},
        )

    def _largest(self, index: int, usage: Usage) -> float:
        """Return the largest magnitude of the codes of a tensor, real units."""
        ends = in_real_units(self._tensors[index], np.array([usage.lowest, usage.highest]))
        return float(np.abs(ends).max())


def _update_some(
    local: Accumulator, values: Floats, tested: Floats, start: int, chosen: NDArray[np.bool_]
) -> None:
    """Add the chosen samples of a batch unclamped, each with its own number."""
    if chosen.all():
        local.update(values, tested, start)
        return
    for row in np.flatnonzero(chosen).tolist():
        local.update(values[row : row + 1], tested[row : row + 1], start + row)


class _Magnitude:
    """Measures the values of one tensor without codes."""

    def __init__(self) -> None:
        self.nan = 0
        self.largest = 0.0
        """The largest finite magnitude, real units."""

    def update(self, values: Floats) -> None:
        """Add values of any shape."""
        self.nan += int(np.isnan(values).sum())
        largest = float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))
        self.largest = max(largest, self.largest)

    def merge(self, other: _Magnitude) -> None:
        """Add the measurements of another, for the samples after these."""
        self.nan += other.nan
        self.largest = max(self.largest, other.largest)


class _Divided:
    """Measures the change at each stage from float arithmetic to the integer kernels.

    Args:
        lsb: The tensor's scale, None for float tensors.
    """

    def __init__(self, lsb: float | None) -> None:
        self._steps = (Accumulator(1, lsb), Accumulator(1, lsb), Accumulator(1, lsb))

    def update(self, *stages: Floats) -> None:
        """Add a batch: float arithmetic, clamped, also rounded, and TFLite's values."""
        for step, before, after in zip(self._steps, stages[:-1], stages[1:], strict=True):
            step.update(before, after)

    def merge(self, other: _Divided) -> None:
        """Add the measurements of another, for the samples after these."""
        for mine, more in zip(self._steps, other._steps, strict=True):
            mine.merge(more)

    def result(self) -> Split:
        """Return the parts of the error so far."""
        return Split(*(step.result().rmse_lsb or 0.0 for step in self._steps))


def _activations(subgraph: Subgraph) -> dict[int, str]:
    """Return the operator's name in messages for each tensor that holds values of the network."""
    others, tensors = subgraph.non_activations, subgraph.tensors
    return {
        i: f"operator {op.index} {op.kind} '{tensors[i].name}'"
        for i, op in subgraph.producers.items()
        if i not in others
    }


class Tally:
    """All counts of a stream, or of a part of it.

    Args:
        plan: The requested measurements.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reference_s = 0.0
        """The seconds spent in the reference, summed over all parts."""
        self._statistics = Statistics(plan)
        self._finals = OutputStatistics(plan.subgraph, plan.wanted)
        self._beyond = BeyondCounter()
        self._outputs: list[tuple[bytes, ...]] = []
        self._shapes: dict[int, tuple[int, ...]] = {}

    def check(self, batch: Batch) -> None:
        """Refuse a batch in which tensors have other shapes than before.

        Raises:
            ShapesChangeError: A tensor has another shape.
        """
        self._check({i: c.shape[1:] for i, c in batch.codes.items()})

    def take(self, samples: Samples | None, batch: Batch, computed: Computed | None) -> None:
        """Count a batch.

        Args:
            samples: The inputs of the stream, None if a recording holds them.
            batch: TFLite's values.
            computed: The reference's `settled` values, None without a reference.
        """
        self._outputs += _observed(self.plan, batch)
        if samples is not None:
            self._beyond.add(samples, batch.start, batch.stop)
        self._statistics.count(batch, computed)
        if computed is not None:
            self._finals.update(batch.start, _sides(batch, computed))

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally, for the samples after these.

        Raises:
            ShapesChangeError: Tensors have other shapes there.
        """
        self._check(other._shapes)
        self.reference_s += other.reference_s
        self._outputs += other._outputs
        self._beyond.merge(other._beyond)
        self._statistics.merge(other._statistics)
        self._finals.merge(other._finals)

    def measured(self) -> Measured:
        """Return the statistics of all batches so far."""
        measured = self._statistics.measured(tuple(self._outputs), self.reference_s)
        return replace(measured, beyond=self._beyond.shares(), finals=self._finals.result())

    def _check(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        both = {i: (self._shapes.setdefault(i, shape), shape) for i, shape in shapes.items()}
        check_shapes(self.plan.subgraph, both)


class ShapesChangeError(RunError):
    """Tensors cannot be compared over samples, because their shapes depend on values.

    Args:
        subgraph: The subgraph of the tensors.
        reasons: The reason by tensor; without these tensors the run could continue.
    """

    def __init__(self, subgraph: Subgraph, reasons: Mapping[int, str]) -> None:
        index, reason = next(iter(reasons.items()))
        super().__init__(
            f"tensor {index} '{subgraph.tensors[index].name}': {reason}",
            hint="trace a single sample: --samples 1",
        )
        self.reasons = dict(reasons)


def check_shapes(subgraph: Subgraph, shapes: Mapping[int, Sequence[tuple[int, ...]]]) -> None:
    """Refuse tensors whose shape depends on the values of a sample."""
    reasons = {}
    for index, seen in shapes.items():
        other = next((shape for shape in seen if shape != seen[0]), None)
        if other is not None:
            sizes = f"{list(seen[0])} and {list(other)}"
            reasons[index] = f"its shape changes from sample to sample: {sizes}"
    if reasons:
        raise ShapesChangeError(subgraph, reasons)


def _observed(plan: Plan, batch: Batch) -> list[tuple[bytes, ...]]:
    """Return the bytes of the model's outputs for the observed samples of a batch."""
    readable = set(plan.read)
    read = [i for i in plan.subgraph.outputs if i in readable]
    rows = range(min(batch.stop, plan.observed) - batch.start)
    return [
        tuple(batch.codes[i][row].tobytes() if i in batch.codes else b"" for i in read)
        for row in rows
    ]


def _sides(batch: Batch, computed: Computed) -> dict[str, Mapping[int, Floats]]:
    """Return the values of each side, which include the final outputs."""
    emulated = fitting(computed.emulated, batch)
    return {TFLITE: batch.real, REFERENCE: computed.free, EMULATION: emulated}
