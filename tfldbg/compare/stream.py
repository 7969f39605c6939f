"""Run both sides over the samples, batch by batch, and collect statistics.

Memory holds one batch of every tensor, however many samples there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops, quant
from tfldbg.compare.accumulate import Accumulator, Doubles, TensorStats
from tfldbg.compare.custom import Metric, MetricCounter
from tfldbg.compare.outputs import Finals, OutputStatistics, Wanted
from tfldbg.compare.overlap import ahead, one_behind
from tfldbg.compare.sides import EMULATION, REFERENCE, TFLITE
from tfldbg.compare.usage import Usage, UsageCounter, beyond_range
from tfldbg.errors import RunError
from tfldbg.graph.model import Subgraph, Tensor
from tfldbg.graph.query import non_activations, producers
from tfldbg.progress import Progress
from tfldbg.reference.evaluate import Floats
from tfldbg.run.litert import Runner
from tfldbg.run.samples import Samples

_BATCH_BYTES = 96 << 20
_MOST_SAMPLES = 32
_COUNTED = frozenset({"INT4", "INT8", "UINT8", "INT16"})


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


class Reference(Protocol):
    """What a .tflite file is compared with."""

    batch: int | None
    """The only batch size it takes, None when any will do."""

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            TfldbgError: It cannot compute the data.
        """

    def close(self) -> None:
        """Free what it holds."""


class Recorder(Protocol):
    """Whoever keeps the batches."""

    def record(self, batch: Batch, computed: Computed) -> None:
        """Keep one batch, `settled`."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorders:
    """Several who keep the batches, one after the other."""

    recorders: tuple[Recorder, ...]

    def record(self, batch: Batch, computed: Computed) -> None:
        """Let each of them keep one batch."""
        for recorder in self.recorders:
            recorder.record(batch, computed)


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
    local_channels: Mapping[int, Doubles]
    """By tensor (channels, `CHANNEL_COLUMNS`)."""
    accumulated_channels: Mapping[int, Doubles]
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


NOTHING = Measured({}, {}, {}, {}, {}, {}, {}, {}, (), 0.0, {}, {})
"""What is measured before anything has run."""


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


def stream(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    reference: Reference | None,
    recorder: Recorder | None,
    progress: Progress,
    kept: Iterable[tuple[Batch, Computed]] = (),
) -> Measured:
    """Measure every tensor over every sample.

    What an earlier run kept is counted as if it had been computed now: the same arrays go the same
    way in the same batches, so that the outcome is the same to the last bit.

    Args:
        plan: What to read.
        samples: The inputs of both sides.
        runner: The instrumented model.
        reference: What to compare with, None to record TFLite alone.
        recorder: Who keeps the values, None for nobody.
        progress: Is told of every sample.
        kept: The first batches, `settled`, where they need not be computed again.

    Raises:
        RunError: The runtime dies.
        KerasError: The reference cannot compute the data.
    """
    loops.keep_memory()
    statistics = Statistics(plan)
    finals = OutputStatistics(plan.subgraph, plan.wanted)
    outputs: list[tuple[bytes, ...]] = []
    first: dict[int, tuple[int, ...]] = {}
    fixed = reference.batch if reference is not None else None
    size = fixed or batch_size(plan, samples.count)
    spent, done = 0.0, 0

    def check(batch: Batch) -> None:
        shapes = {i: c.shape[1:] for i, c in batch.codes.items()}
        _check_shapes(plan.subgraph, {i: (first.setdefault(i, s), s) for i, s in shapes.items()})

    def take(batch: Batch, computed: Computed) -> None:
        outputs.extend(_observed(plan, batch))
        statistics.see(batch)
        if reference is not None:
            statistics.compare(batch, computed)
            finals.update(batch.start, _sides(batch, computed))
        if recorder is not None:
            recorder.record(batch, computed)

    progress.stage("tracing", samples.count)
    for batch, computed in kept:
        check(batch)
        take(batch, computed)
        done = batch.stop
        progress.advance(batch.stop - batch.start)

    def run(numbers: range) -> Batch:
        return run_batch(plan, samples, runner, numbers, progress)

    def settle_and_take(both: tuple[Batch, Computed]) -> None:
        take(both[0], settled(plan.subgraph.tensors, *both, clamp=recorder is not None))

    rest = [range(n, min(n + size, samples.count)) for n in range(done, samples.count, size)]
    # The child runs the next batch and a thread counts the last one, while the reference computes.
    with ahead(run, rest, runner.close) as batches, one_behind(settle_and_take) as hand:
        for batch in batches:
            check(batch)
            computed = Computed({}, {})
            if reference is not None:
                began = perf_counter()
                computed = reference.compute(batch)
                spent += perf_counter() - began
            hand((batch, computed))
    measured = statistics.measured(tuple(outputs), spent)
    return replace(measured, beyond=beyond_range(samples), finals=finals.result())


def _observed(plan: Plan, batch: Batch) -> list[tuple[bytes, ...]]:
    """Return for the observed samples of a batch the bytes of the model's own outputs."""
    readable = set(plan.read)
    read = [i for i in plan.subgraph.outputs if i in readable]
    rows = range(min(batch.stop, plan.observed) - batch.start)
    return [
        tuple(batch.codes[i][row].tobytes() if i in batch.codes else b"" for i in read)
        for row in rows
    ]


def settled(
    tensors: Sequence[Tensor], batch: Batch, computed: Computed, *, clamp: bool = True
) -> Computed:
    """Return what can be compared: in TFLite's shape, ``local`` clamped to each tensor's range.

    Values of another size than TFLite's are left out: the shapes themselves differ, and that is
    judged by itself.  The arrays are laid out as they are when they come back from a file, because
    the order in which NumPy adds up depends on it.

    Args:
        tensors: Of the subgraph.
        batch: What TFLite made.
        computed: What the reference made of it.
        clamp: Whether to clamp; `Statistics` does it by itself where that is left to it.
    """
    local, saturated = {}, {}
    for index, values in computed.local.items():
        tested = computed.tested.get(index, batch.real[index])
        if values.size == tested.size:
            local[index] = np.ascontiguousarray(values.reshape(tested.shape))
            if clamp:
                local[index], saturated[index] = clamped(tensors[index], local[index])
    return replace(
        computed,
        free=_in_order(fitting(computed.free, batch.real)),
        local=local,
        tested=_in_order(computed.tested),
        clamped=_in_order(computed.clamped),
        rounded=_in_order(computed.rounded),
        emulated=_in_order(computed.emulated),
        saturated=saturated,
    )


def _in_order(values: Mapping[int, Floats]) -> dict[int, Floats]:
    return {i: np.ascontiguousarray(v) for i, v in values.items()}


def _sides(batch: Batch, computed: Computed) -> dict[str, Mapping[int, Floats]]:
    """Return what is known of each side, among it the final outputs."""
    emulated = fitting({**computed.rounded, **computed.emulated}, batch.real)
    return {TFLITE: batch.real, REFERENCE: computed.free, EMULATION: emulated}


def fitting(values: Mapping[int, Floats], real: Mapping[int, Floats]) -> dict[int, Floats]:
    """Return the values that are as many as TFLite's, in TFLite's shape."""
    return {i: v.reshape(real[i].shape) for i, v in values.items() if v.size == real[i].size}


def in_real_units(tensor: Tensor, codes: NDArray[Any]) -> Floats:
    """Return a tensor's values (n, ...) in real units, float32."""
    if tensor.lsb is None or tensor.zero_point is None:
        return as_floats(codes)
    return quant.dequantize(codes, tensor.lsb, tensor.zero_point)


def as_floats(values: NDArray[Any]) -> Floats:
    """Return numbers as float32; of complex ones real and imaginary part, along a last axis."""
    if values.dtype.kind == "c":
        values = np.stack((values.real, values.imag), axis=-1)
    return values.astype(np.float32, copy=False)


def batch_size(plan: Plan, count: int) -> int:
    """Return how many of ``count`` samples to keep in memory at a time."""
    elements = sum(plan.subgraph.tensors[i].elements for i in plan.read)
    return max(1, min(count, _MOST_SAMPLES, _BATCH_BYTES // (4 * max(elements, 1))))


def run_batch(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    numbers: range,
    progress: Progress,
) -> Batch:
    """Invoke the model on each sample, in order; the first goes on from where the runner is.

    Args:
        plan: What to read.
        samples: The inputs.
        runner: The instrumented model.
        numbers: Which samples.
        progress: Is told of every sample.

    Raises:
        RunError: The runtime dies, or the samples have different shapes.
    """
    collected: dict[int, list[NDArray[Any]]] = {i: [] for i in plan.read}
    states: dict[int, list[NDArray[Any]]] = {}
    for number in numbers:
        given = samples.codes(number)
        made = run_sample(runner, samples, number)
        for index, array in zip(plan.subgraph.inputs, given, strict=True):
            collected.setdefault(index, []).append(array)
        for index, array in zip(plan.read, made, strict=True):
            collected[index].append(array)
        for index, array in runner.states.items():
            states.setdefault(index, []).append(array)
        progress.advance()
    numeric = {i: a for i, a in collected.items() if a[0].dtype != object}
    _check_shapes(plan.subgraph, {i: [a.shape for a in arrays] for i, arrays in numeric.items()})
    codes = {i: np.stack(a) for i, a in numeric.items()}
    held = {i: np.stack(a) for i, a in states.items()}
    tensors, steps = plan.subgraph.tensors, samples.stream_steps
    return batch_of(tensors, numbers, codes, stream_steps=steps, states=held)


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


def run_sample(runner: Runner, samples: Samples, number: int) -> list[NDArray[Any]]:
    """Invoke the model on one sample, what it remembers being reset where a stream begins.

    Raises:
        RunError: The runtime refuses it, dies of it or does not finish; the message says which.
    """
    try:
        return runner.run(samples.codes(number), fresh=samples.begins_stream(number))
    except RunError as error:
        raise RunError(f"sample {number}: {error.message}", hint=error.hint) from error


def _check_shapes(subgraph: Subgraph, shapes: Mapping[int, Sequence[tuple[int, ...]]]) -> None:
    """Refuse tensors whose shape depends on the values of a sample."""
    reasons = {}
    for index, seen in shapes.items():
        other = next((shape for shape in seen if shape != seen[0]), None)
        if other is not None:
            sizes = f"{list(seen[0])} and {list(other)}"
            reasons[index] = f"its shape changes from sample to sample: {sizes}"
    if reasons:
        raise ShapesChangeError(subgraph, reasons)


class Statistics:
    """The accumulators of every tensor."""

    def __init__(self, plan: Plan) -> None:
        self._tensors = plan.subgraph.tensors
        self._histograms = plan.histograms
        self._metrics = plan.metrics
        self._names = _activations(plan.subgraph) if plan.metrics else {}
        self._accumulated: dict[int, Accumulator] = {}
        self._local: dict[int, Accumulator] = {}
        self._split: dict[int, tuple[Accumulator, Accumulator, Accumulator]] = {}
        self._nan: dict[int, int] = {}
        self._ranges: dict[int, float] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._usage: dict[int, UsageCounter] = {}

    def see(self, batch: Batch) -> None:
        """Note what TFLite's own values are like."""
        for index, values in batch.real.items():
            codes, tensor = batch.codes[index], self._tensors[index]
            self._shapes[index] = codes.shape[1:]
            if tensor.lsb is not None and tensor.type in _COUNTED:
                counter = self._usage.setdefault(index, UsageCounter(tensor.type, self._histograms))
                counter.update(codes)
                continue
            nan = int(np.isnan(values).sum())
            if nan:
                self._nan[index] = self._nan.get(index, 0) + nan
            largest = float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))
            self._ranges[index] = max(largest, self._ranges.get(index, 0.0))

    def compare(self, batch: Batch, computed: Computed) -> None:
        """Add one batch, `settled`."""
        real = batch.real
        for index, values in computed.free.items():
            accumulated = self._of(self._accumulated, index, values)
            accumulated.update(values, real[index], batch.start)
        for index, values in computed.local.items():
            tested = computed.tested.get(index, real[index])
            local = self._of(self._local, index, values)
            saturated = computed.saturated.get(index)
            limits = _range(self._tensors[index]) if saturated is None else None
            local.update(values, tested, batch.start, saturated or 0, limits)
        for index, rounded in computed.rounded.items():
            if index not in computed.free:
                continue
            self._divide(index, computed.free[index], computed.clamped[index], rounded, real[index])

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

    def _divide(
        self, index: int, free: Floats, clamped: Floats, rounded: Floats, real: Floats
    ) -> None:
        """Add what each step from float arithmetic to the integer kernels changes."""
        if index not in self._split:
            lsb = self._tensors[index].lsb
            self._split[index] = (Accumulator(1, lsb), Accumulator(1, lsb), Accumulator(1, lsb))
        steps = (free, clamped, rounded, real)
        for accumulator, before, after in zip(
            self._split[index], steps[:-1], steps[1:], strict=True
        ):
            accumulator.update(before, after)

    def measured(self, outputs: tuple[tuple[bytes, ...], ...], reference_s: float) -> Measured:
        """Return the statistics of everything seen so far."""
        usage = {i: u for i, c in self._usage.items() if (u := c.result()) is not None}
        split = {
            i: Split(*(a.result().rmse_lsb or 0.0 for a in accumulators))
            for i, accumulators in self._split.items()
        }
        return Measured(
            local={i: a.result() for i, a in self._local.items()},
            accumulated={i: a.result() for i, a in self._accumulated.items()},
            local_channels={i: a.channels() for i, a in self._local.items()},
            accumulated_channels={i: a.channels() for i, a in self._accumulated.items()},
            split=split,
            nan=self._nan,
            ranges={**self._ranges, **{i: self._largest(i, u) for i, u in usage.items()}},
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


def _activations(subgraph: Subgraph) -> dict[int, str]:
    """Return how messages call the operator of every tensor that holds values of the network."""
    others, tensors = non_activations(subgraph), subgraph.tensors
    return {
        i: f"operator {op.index} {op.kind} '{tensors[i].name}'"
        for i, op in producers(subgraph).items()
        if i not in others
    }


def clamped(tensor: Tensor, values: Floats) -> tuple[Floats, int]:
    """Clamp to the tensor's range; count what lies more than a step beyond it."""
    limits = _range(tensor)
    return (values, 0) if limits is None else loops.clamp(values, limits)


def _range(tensor: Tensor) -> loops.Range | None:
    """Return what a tensor's codes can stand for; None for float tensors."""
    if tensor.lsb is None or tensor.zero_point is None:
        return None
    low, high = quant.real_range(tensor.type, tensor.lsb, tensor.zero_point)
    return loops.Range(low, high, tensor.lsb * 1.001)  # SOFTMAX yields 1.0, a step beyond its range
