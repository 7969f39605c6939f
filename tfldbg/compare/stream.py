"""Run both sides over the samples, batch by batch, and collect statistics.

Memory holds one batch of every tensor, however many samples there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.compare.accumulate import Accumulator, Doubles, TensorStats
from tfldbg.errors import RunError
from tfldbg.graph.model import Subgraph, Tensor
from tfldbg.match.model import Matching
from tfldbg.progress import Progress
from tfldbg.reference.evaluate import Evaluator, Floats
from tfldbg.run.litert import Runner
from tfldbg.run.samples import Samples

_BATCH_BYTES = 48 << 20
_MOST_SAMPLES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one batch of samples gave, by tensor index; first axis samples."""

    first: int
    codes: Mapping[int, NDArray[Any]]
    """TFLite's own values, codes where the tensor is quantized."""
    reference: Mapping[int, Floats]
    """The free-running reference."""
    local: Mapping[int, Floats]
    """The reference's operators on TFLite's inputs, clamped to the tensor's range."""


class Recorder(Protocol):
    """Whoever keeps the batches."""

    def record(self, batch: Batch) -> None:
        """Keep one batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The outcome of a stream."""

    local: Mapping[int, TensorStats]
    accumulated: Mapping[int, TensorStats]
    local_channels: Mapping[int, Doubles]
    """By tensor (channels, `CHANNEL_COLUMNS`)."""
    accumulated_channels: Mapping[int, Doubles]
    outputs: tuple[tuple[bytes, ...], ...]
    """For the first samples the bytes of the model's own outputs."""
    reference_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to read and what to compute."""

    subgraph: Subgraph
    read: tuple[int, ...]
    """Tensors that the runner returns, in its order."""
    matching: Matching | None
    segment_keys: tuple[int, ...]
    """Output tensors of the segments, in the evaluator's order."""
    batch: int | None
    """The only batch size the reference takes, None when any will do."""
    observed: int
    """For how many samples to keep the outputs' bytes."""


def stream(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    evaluator: Evaluator | None,
    recorder: Recorder | None,
    progress: Progress,
) -> Measured:
    """Measure every tensor over every sample.

    Args:
        plan: What to read and to compute.
        samples: The inputs of both sides.
        runner: The instrumented model.
        evaluator: The reference, None to record TFLite alone.
        recorder: Who keeps the values, None for nobody.
        progress: Is told of every sample.

    Raises:
        RunError: The runtime dies.
        KerasError: The reference cannot compute the data.
    """
    tensors = plan.subgraph.tensors
    statistics = _Statistics(plan)
    outputs: list[tuple[bytes, ...]] = []
    size = plan.batch or _batch_size(plan, samples.count)
    spent = 0.0
    progress.stage("tracing", samples.count)
    for start in range(0, samples.count, size):
        stop = min(start + size, samples.count)
        codes = _run_batch(plan, samples, runner, range(start, stop), outputs, progress)
        reference: dict[int, Floats] = {}
        local: dict[int, Floats] = {}
        if evaluator is not None and plan.matching is not None:
            began = perf_counter()
            real = {i: in_real_units(tensors[i], c) for i, c in codes.items()}
            fetched, computed = evaluator.run(
                reference_inputs(plan.matching.inputs, samples.real(start, stop)),
                {key: real[key] for key in evaluator.tap_keys},
            )
            spent += perf_counter() - began
            reference = {
                index: values.reshape(real[index].shape)
                for index, values in zip(plan.matching.matches, fetched, strict=True)
                if index in real
            }
            local = dict(zip(plan.segment_keys, computed, strict=True))
            local = statistics.update(start, real, reference, local)
        if recorder is not None:
            recorder.record(Batch(start, codes, reference, local))
    return statistics.measured(tuple(outputs), spent)


def in_real_units(tensor: Tensor, codes: NDArray[Any]) -> Floats:
    """Return a tensor's values (n, ...) in real units, float32."""
    if tensor.lsb is None or tensor.zero_point is None:
        return codes.astype(np.float32)
    return quant.dequantize(codes, tensor.lsb, tensor.zero_point)


def _batch_size(plan: Plan, count: int) -> int:
    elements = sum(plan.subgraph.tensors[i].elements for i in plan.read)
    return max(1, min(count, _MOST_SAMPLES, _BATCH_BYTES // (4 * max(elements, 1))))


def reference_inputs(numbers: Sequence[int], real: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Bring the inputs into the order in which the reference takes them.

    Args:
        numbers: For each TFLite input the number of the reference input.
        real: Per TFLite input (n, ...), real units.
    """
    ordered: list[NDArray[Any]] = [np.empty(0)] * len(real)
    for number, array in zip(numbers, real, strict=True):
        ordered[number] = array
    return ordered


def _run_batch(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    numbers: range,
    outputs: list[tuple[bytes, ...]],
    progress: Progress,
) -> dict[int, NDArray[Any]]:
    """Invoke the model on each sample; return by tensor (n, ...), inputs included."""
    readable = set(plan.read)
    collected: dict[int, list[NDArray[Any]]] = {i: [] for i in plan.read}
    for number in numbers:
        given = samples.codes(number)
        for index, array in zip(plan.subgraph.inputs, given, strict=True):
            collected.setdefault(index, []).append(array)
        for index, array in zip(plan.read, runner.run(given), strict=True):
            collected[index].append(array)
        if number < plan.observed:
            outputs.append(
                tuple(collected[i][-1].tobytes() for i in plan.subgraph.outputs if i in readable)
            )
        progress.advance()
    return {i: _stacked(plan.subgraph, i, a) for i, a in collected.items() if a[0].size}


def _stacked(subgraph: Subgraph, index: int, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        sizes = " and ".join(str(list(s)) for s in sorted(shapes)[:2])
        raise RunError(
            f"tensor {index} '{subgraph.tensors[index].name}' changes its shape from sample to "
            f"sample: {sizes}",
            hint="look at one sample at a time: --samples 1",
        )
    return np.stack(arrays)


class _Statistics:
    """One pair of accumulators for every matched tensor."""

    def __init__(self, plan: Plan) -> None:
        self._tensors = plan.subgraph.tensors
        matches = plan.matching.matches if plan.matching else {}
        self._accumulated = {i: self._accumulator(i) for i in matches}
        self._local = {i: self._accumulator(i) for i in plan.segment_keys}

    def _accumulator(self, index: int) -> Accumulator:
        tensor = self._tensors[index]
        return Accumulator(tensor.shape[-1] if tensor.shape else 1, tensor.lsb)

    def update(
        self,
        first: int,
        real: Mapping[int, Floats],
        reference: Mapping[int, Floats],
        local: Mapping[int, Floats],
    ) -> dict[int, Floats]:
        """Add one batch; return the local reference clamped to what each tensor can represent."""
        for index, values in reference.items():
            self._accumulated[index].update(values, real[index], first)
        clamped = {}
        for index, values in local.items():
            shaped = values.reshape(real[index].shape)
            clamped[index], saturated = _clamped(self._tensors[index], shaped)
            self._local[index].update(clamped[index], real[index], first, saturated)
        return clamped

    def measured(self, outputs: tuple[tuple[bytes, ...], ...], reference_s: float) -> Measured:
        """Return the statistics of everything seen so far."""
        return Measured(
            local={i: a.result() for i, a in self._local.items()},
            accumulated={i: a.result() for i, a in self._accumulated.items()},
            local_channels={i: a.channels() for i, a in self._local.items()},
            accumulated_channels={i: a.channels() for i, a in self._accumulated.items()},
            outputs=outputs,
            reference_s=reference_s,
        )


def _clamped(tensor: Tensor, values: Floats) -> tuple[Floats, int]:
    """Clamp to the tensor's range; count what lies more than a step beyond it."""
    if tensor.lsb is None or tensor.zero_point is None:
        return values, 0
    low, high = quant.real_range(tensor.type, tensor.lsb, tensor.zero_point)
    step = tensor.lsb * 1.001  # SOFTMAX yields 1.0, exactly a step beyond its fixed range
    beyond = np.count_nonzero((values < low - step) | (values > high + step))
    return np.clip(values, np.float32(low), np.float32(high)), int(beyond)
