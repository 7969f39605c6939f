"""What is counted of the batches of a stream, and how two parts of one stream are added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tfldbg.compare.overlap import Crew
    from tfldbg.compare.undecided import Comparison
    from tfldbg.graph.model import Subgraph
    from tfldbg.options.sources import Metric
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.samples import Samples

Count = Callable[[], None]
"""Adds something to what is known of one tensor, and touches nothing else."""
_COUNTED = frozenset({"INT4", "INT8", "UINT8", "INT16"})


@dataclass(frozen=True, slots=True)
class Split:
    """Where the accumulated error of a tensor comes from, RMSE in LSB."""

    saturation: float
    """Float against the same clamped to every tensor's range."""
    rounding: float
    """Clamped against rounded to codes too."""
    kernel: float
    """Rounded float arithmetic against the integer kernels."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The outcome of a stream."""

    local: Mapping[int, TensorStats]
    accumulated: Mapping[int, TensorStats]
    local_counters: Mapping[int, Accumulator]
    """What ``local`` was made of; `Accumulator.channels` tells more, and takes its time."""
    accumulated_counters: Mapping[int, Accumulator]
    split: Mapping[int, Split]
    nan: Mapping[int, int]
    """By tensor how many of TFLite's own values are NaN, where there are any."""
    ranges: Mapping[int, float]
    """By tensor TFLite's largest magnitude, real units."""
    shapes: Mapping[int, tuple[int, ...]]
    """By tensor the shape that it had in TFLite."""
    outputs: tuple[tuple[bytes, ...], ...]
    """For the first samples the bytes of the model's own outputs."""
    reference_s: float
    usage: Mapping[int, Usage]
    """By quantized tensor the codes that TFLite yielded."""
    beyond: Mapping[int, float]
    """By quantized input the share of the given values, zeros left out, beyond its range."""
    finals: Finals = field(default_factory=Finals)
    """The final outputs."""


NOTHING = Measured({}, {}, {}, {}, {}, {}, {}, {}, (), 0.0, {}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to read."""

    subgraph: Subgraph
    read: tuple[int, ...]
    """Tensors that the runner returns, in its order."""
    observed: int
    """For how many samples to keep the outputs' bytes."""
    wanted: Wanted = field(default_factory=Wanted)
    """What to find out about the final outputs."""
    histograms: bool = False
    """Whether to count histograms of the errors."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Metrics of the user's own, by name."""
    undecided: tuple[Comparison, ...] = ()
    """The operators that compare quantized values."""
    usage: bool = True
    """Whether to note what the tested values are like by themselves: their codes, and NaN."""


class Statistics:
    """The accumulators of every tensor."""

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

    def counts(self, batch: Batch, computed: Computed | None) -> list[Count]:
        """Return what there is to count of a batch, each by itself and in any order.

        Args:
            batch: What TFLite made.
            computed: What the reference made of it, `settled`; None where there is none.
        """
        noted = batch.real if self._noted else {}
        seen = [self._seeing(i, v, batch.codes[i]) for i, v in noted.items()]
        return seen if computed is None else [*seen, *self._differences(batch, computed)]

    def _seeing(self, index: int, values: Floats, codes: NDArray[Any]) -> Count:
        """Return what notes what TFLite's own values of a tensor are like."""
        tensor = self._tensors[index]
        self._shapes[index] = codes.shape[1:]
        if tensor.lsb is not None and tensor.type in _COUNTED:
            counter = self._usage.setdefault(index, UsageCounter(tensor.type, self._histograms))
            return partial(counter.update, codes)
        return partial(self._floats.setdefault(index, _Magnitude()).update, values)

    def _differences(self, batch: Batch, computed: Computed) -> Iterator[Count]:
        real = batch.real
        for index, values in computed.free.items():
            accumulated = self._of(self._accumulated, index, values)
            yield partial(accumulated.update, values, real[index], batch.start)
        for index, values in computed.local.items():
            fed_alike = computed.fed_alike.get(index)
            if fed_alike is not None and not fed_alike.any():
                continue
            tested = computed.tested.get(index, real[index])
            local = self._of(self._local, index, values)
            if fed_alike is not None:
                yield partial(_update_some, local, values, tested, batch.start, fed_alike)
                continue
            saturated = computed.saturated.get(index)
            limits = code_limits(self._tensors[index]) if saturated is None else None
            yield partial(local.update, values, tested, batch.start, saturated or 0, limits)
        for index, rounded in computed.rounded.items():
            if index not in computed.free:
                continue
            if index not in self._split:
                self._split[index] = _Divided(self._tensors[index].lsb)
            stages = (computed.free[index], computed.clamped[index], rounded, real[index])
            yield partial(self._split[index].update, *stages)

    def _of(self, known: dict[int, Accumulator], index: int, values: Floats) -> Accumulator:
        if index not in known:
            channels = values.shape[-1] if values.ndim > 1 else 1
            lsb = self._tensors[index].lsb
            known[index] = Accumulator(channels, lsb, self._histograms, self._counters(index))
        return known[index]

    def _counters(self, index: int) -> dict[str, MetricCounter]:
        """Return what counts the user's metrics: nothing for shapes, and for the model's inputs."""
        where = self._names.get(index)
        if where is None:
            return {}
        return {name: MetricCounter(name, m, where) for name, m in self._metrics.items()}

    def merge(self, other: Statistics) -> None:
        """Add what others have counted of the samples that follow."""
        merge_all(self._accumulated, other._accumulated)
        merge_all(self._local, other._local)
        merge_all(self._split, other._split)
        merge_all(self._usage, other._usage)
        merge_all(self._floats, other._floats)
        self._shapes = {**other._shapes, **self._shapes}

    def measured(self, outputs: tuple[tuple[bytes, ...], ...], reference_s: float) -> Measured:
        """Return the statistics of everything seen so far."""
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
        """Return the largest magnitude that the codes of a tensor stand for, real units."""
        ends = in_real_units(self._tensors[index], np.array([usage.lowest, usage.highest]))
        return float(np.abs(ends).max())


def _update_some(
    local: Accumulator, values: Floats, tested: Floats, start: int, chosen: NDArray[np.bool_]
) -> None:
    """Add the chosen samples of a batch, as they are, each under its own number."""
    if chosen.all():
        local.update(values, tested, start)
        return
    for row in np.flatnonzero(chosen).tolist():
        local.update(values[row : row + 1], tested[row : row + 1], start + row)


class _Magnitude:
    """Notes what the values of one tensor without codes are like."""

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
        """Add what another has seen of the samples that follow."""
        self.nan += other.nan
        self.largest = max(self.largest, other.largest)


class _Divided:
    """Counts what each step from float arithmetic to the integer kernels changes.

    Args:
        lsb: The tensor's scale, None for float tensors.
    """

    def __init__(self, lsb: float | None) -> None:
        self._steps = (Accumulator(1, lsb), Accumulator(1, lsb), Accumulator(1, lsb))

    def update(self, *stages: Floats) -> None:
        """Add a batch: float arithmetic, the same clamped, rounded too, and TFLite's values."""
        for step, before, after in zip(self._steps, stages[:-1], stages[1:], strict=True):
            step.update(before, after)

    def merge(self, other: _Divided) -> None:
        """Add what another has counted of the samples that follow."""
        for mine, more in zip(self._steps, other._steps, strict=True):
            mine.merge(more)

    def result(self) -> Split:
        """Return what was seen so far."""
        return Split(*(step.result().rmse_lsb or 0.0 for step in self._steps))


def _activations(subgraph: Subgraph) -> dict[int, str]:
    """Return how messages call the operator of every tensor that holds values of the network."""
    others, tensors = subgraph.non_activations, subgraph.tensors
    return {
        i: f"operator {op.index} {op.kind} '{tensors[i].name}'"
        for i, op in subgraph.producers.items()
        if i not in others
    }


class Tally:
    """All that is counted of a stream, or of a part of it.

    Args:
        plan: What is read.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reference_s = 0.0
        """Seconds that the reference took, those of all parts added up."""
        self._statistics = Statistics(plan)
        self._finals = OutputStatistics(plan.subgraph, plan.wanted)
        self._beyond = BeyondCounter()
        self._outputs: list[tuple[bytes, ...]] = []
        self._shapes: dict[int, tuple[int, ...]] = {}

    def check(self, batch: Batch) -> None:
        """Refuse a batch whose tensors have other shapes than those before it.

        Raises:
            ShapesChangeError: It has.
        """
        self._check({i: c.shape[1:] for i, c in batch.codes.items()})

    def take(
        self, samples: Samples | None, batch: Batch, computed: Computed | None, crew: Crew
    ) -> None:
        """Count a batch.

        Args:
            samples: The inputs of the stream, None where a recording holds them.
            batch: What TFLite made.
            computed: What the reference made of it, `settled`; None where there is none.
            crew: Who counts.
        """
        self._outputs += _observed(self.plan, batch)
        if samples is not None:
            self._beyond.add(samples, batch.start, batch.stop)
        crew.do(self._statistics.counts(batch, computed))
        if computed is not None:
            self._finals.update(batch.start, _sides(batch, computed))

    def merge(self, other: Tally) -> None:
        """Add what another tally has counted of the samples that follow.

        Raises:
            ShapesChangeError: Tensors had other shapes there.
        """
        self._check(other._shapes)
        self.reference_s += other.reference_s
        self._outputs += other._outputs
        self._beyond.merge(other._beyond)
        self._statistics.merge(other._statistics)
        self._finals.merge(other._finals)

    def measured(self) -> Measured:
        """Return the statistics of everything counted so far."""
        measured = self._statistics.measured(tuple(self._outputs), self.reference_s)
        return replace(measured, beyond=self._beyond.shares(), finals=self._finals.result())

    def _check(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        both = {i: (self._shapes.setdefault(i, shape), shape) for i, shape in shapes.items()}
        check_shapes(self.plan.subgraph, both)


class ShapesChangeError(RunError):
    """Tensors cannot be brought together, because their shapes follow the values of a sample.

    Args:
        subgraph: Where they are.
        reasons: By tensor what happened; without these tensors the run would go on.
    """

    def __init__(self, subgraph: Subgraph, reasons: Mapping[int, str]) -> None:
        index, reason = next(iter(reasons.items()))
        super().__init__(
            f"tensor {index} '{subgraph.tensors[index].name}': {reason}",
            hint="look at one sample at a time: --samples 1",
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
    """Return for the observed samples of a batch the bytes of the model's own outputs."""
    readable = set(plan.read)
    read = [i for i in plan.subgraph.outputs if i in readable]
    rows = range(min(batch.stop, plan.observed) - batch.start)
    return [
        tuple(batch.codes[i][row].tobytes() if i in batch.codes else b"" for i in read)
        for row in rows
    ]


def _sides(batch: Batch, computed: Computed) -> dict[str, Mapping[int, Floats]]:
    """Return what is known of each side, among it the final outputs."""
    emulated = fitting({**computed.rounded, **computed.emulated}, batch.real)
    return {TFLITE: batch.real, REFERENCE: computed.free, EMULATION: emulated}
