"""Passes over data that measure ranges: in float, and with all tensors before already rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import in_real_units
from tfldbg.compare.ranges.calibrate import (
    FAKE_QUANT_PASS,
    FLOAT_PASS,
    Calibrated,
    Extent,
    Sharing,
    as_parameters,
    calibrate,
)
from tfldbg.rewrite.twin import Twins, measuring_twin
from tfldbg.run.derived import copy_runner

if TYPE_CHECKING:
    from tfldbg.graph.model import QuantParams
    from tfldbg.progress import Progress
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples


class Actual(Protocol):
    """Returns the values that the file computes, for operators without a float copy."""

    def __call__(self, number: int) -> Mapping[int, NDArray[Any]]:
        """Return the codes of one sample by tensor, in the tensor's shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """The float copy of a file, and everything needed to run it over data."""

    job: Job
    """The file and the data."""
    refused: Mapping[int, str]
    """The reason for each operator without a float copy; its actual output is used."""
    actual: Actual


@dataclass(frozen=True, slots=True)
class Pass:
    """The outcome of a pass over data."""

    parameters: Mapping[int, Calibrated]
    """The parameters by tensor."""
    rounds: int
    """The number of runs over the data."""
    settled: bool
    """True if the last round changed nothing."""


def float_extents(copy: Copy, sharing: Sharing, progress: Progress) -> dict[int, Extent]:
    """Run the data through the float copy; return the extents of ``sharing.sources``.

    Raises:
        RunError: The runtime refuses the float copy.
    """
    progress.stage(FLOAT_PASS, copy.job.samples.count)
    return _extents(copy, sharing, None, progress)


def float_pass(copy: Copy, sharing: Sharing, seen: Mapping[int, Extent]) -> Pass:
    """Return the parameters that post-training quantization gives, from `float_extents`."""
    return Pass(calibrate(copy.job.subgraph, sharing, seen, FLOAT_PASS), 1, True)


def fake_quant_pass(
    copy: Copy, sharing: Sharing, seen: Mapping[int, Extent], progress: Progress
) -> Pass:
    """Return the parameters of observers that see all tensors before already rounded.

    It starts from the ranges of the float pass and runs again with the measured ranges until they
    no longer change.  Each round settles at least the first tensor whose inputs have settled, so
    there are no more rounds than the network is deep.  Only if an early tensor shares its
    parameters with a later one may they continue to change; the same limit applies.

    Args:
        copy: The float copy.
        sharing: The tensors that share a range.
        seen: The extents from `float_extents`.
        progress: Receives every sample.

    Raises:
        RunError: The runtime refuses the float copy.
    """
    parameters = calibrate(copy.job.subgraph, sharing, seen, FAKE_QUANT_PASS)
    most = len(sharing.free) + 1
    for number in range(1, most + 1):
        progress.stage(f"{FAKE_QUANT_PASS}, round {number}", copy.job.samples.count)
        seen = _extents(copy, sharing, as_parameters(parameters), progress)
        before = parameters
        parameters = calibrate(copy.job.subgraph, sharing, seen, FAKE_QUANT_PASS)
        if parameters == before:
            return Pass(parameters, number, True)
    return Pass(parameters, most, False)


def _extents(
    copy: Copy,
    sharing: Sharing,
    parameters: Mapping[int, QuantParams] | None,
    progress: Progress,
) -> dict[int, Extent]:
    """Run the data once; return the extents of all tensors that count, before their rounding."""
    seen = {i: Extent() for i in sharing.sources}
    if not sharing.free:
        return seen
    job, graph = copy.job, copy.job.loaded.graph
    made = measuring_twin(graph, job.subgraph, copy.refused, parameters, job.sources)
    with ExitStack() as stack:
        runner = copy_runner(job.loaded.path, made)
        stack.callback(runner.close)
        for number in range(job.samples.count):
            real, codes = _inputs(copy, made, number)
            for index in seen.keys() & real.keys():
                seen[index].see(real[index])
            values = runner.run(codes, real, 1, [job.samples.begins_stream(number)])
            for (_, index), value in zip(made.results, values, strict=True):
                if index in seen:
                    seen[index].see(value)
            progress.advance()
    return seen


def _inputs(
    copy: Copy, made: Twins, number: int
) -> tuple[dict[int, Floats], dict[int, NDArray[Any]]]:
    """Return the inputs of one sample (1, ...), in real units and as they are stored."""
    tensors, inputs = copy.job.subgraph.tensors, copy.job.subgraph.inputs
    codes = dict(zip(inputs, copy.job.samples.codes(number), strict=True))
    if not set(made.feeds) <= set(inputs):
        codes.update(copy.actual(number))
    stored = {i: np.asarray(array)[None] for i, array in codes.items()}
    real = {i: in_real_units(tensors[i], array) for i, array in stored.items()}
    return {**real, **real_inputs(copy.job.samples, inputs, stored, number, number + 1)}, stored


def real_inputs(
    samples: Samples,
    inputs: Sequence[int],
    stored: Mapping[int, NDArray[Any]],
    start: int,
    stop: int,
) -> dict[int, Floats]:
    """Return the model's inputs as the user gave them, not rounded, in the model's shapes.

    Args:
        samples: The data.
        inputs: The model's inputs.
        stored: The inputs (n, ...) in the model's types and shapes.
        start: The first sample.
        stop: One past the last sample.
    """
    given = zip(inputs, samples.real(start, stop), strict=True)
    return {i: np.asarray(array, np.float32).reshape(stored[i].shape) for i, array in given}
