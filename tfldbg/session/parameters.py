"""Compare quantization parameters, and with data also the ranges measured on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.against.parts.float_copies import copy_of, float_copies
from tfldbg.against.parts.keras_relations import keras_extents, match_keras
from tfldbg.against.parts.relate_files import relate_files
from tfldbg.compare.constants.files import Holder
from tfldbg.compare.ranges.calibrate import Extent, share
from tfldbg.compare.ranges.fit import fill
from tfldbg.compare.ranges.parameters import (
    ParameterTable,
    expected_by_file,
    parameter_table,
    tensor_rows,
    weight_rows,
)
from tfldbg.compare.ranges.passes import fake_quant_pass, float_extents, float_pass
from tfldbg.compare.ranges.table import RangeTable, range_table
from tfldbg.compare.stream import some_samples
from tfldbg.errors import UsageError
from tfldbg.match.files import pair_file_inputs
from tfldbg.match.ports import pair_inputs
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Progress, Silent
from tfldbg.reference.keras import load_frozen
from tfldbg.run.child import limited
from tfldbg.run.job import ALL_SAMPLES, Job, Loaded, check_mapping, load, prepare
from tfldbg.run.litert import Runner
from tfldbg.session.places import check_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tfldbg.compare.constants.turned import Turn
    from tfldbg.match.model import Matching
    from tfldbg.options.sources import ModelSource
    from tfldbg.reference.evaluate import Frozen


@dataclass(frozen=True, slots=True, eq=False)
class _Keras:
    """A Keras model with its matching."""

    frozen: Frozen
    matching: Matching
    turns: Mapping[int, Turn]
    """The factors of activations by operator; the weights are multiplied by the inverse."""

    @property
    def quantizes(self) -> bool:
        """True if it has its own ranges."""
        return any(m.expected is not None for m in self.matching.matches.values())


def compare_parameters(
    model: ModelSource,
    *,
    against: Against | None = None,
    run_on: RunOn | None = None,
    progress: Progress | None = None,
) -> ParameterTable:
    """Compare a file's quantization parameters with its reference's.

    Neither is run without data.  With data, the range of each tensor on it is also measured, in a
    float pass and in a fake-quantized pass.

    Args:
        model: The path or bytes of the .tflite file.
        against: A Keras model, or another .tflite.  A float Keras model runs the float pass.
        run_on: The data to measure ranges on; all samples are used unless ``samples`` is given.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid; the message tells the reason.
    """
    against, run_on = against or Against(), run_on or RunOn()
    with limited(timeout=run_on.timeout, memory=run_on.memory_limit):
        return _compare(model, against, run_on, progress or Silent())


def _compare(
    model: ModelSource, against: Against, run_on: RunOn, progress: Progress
) -> ParameterTable:
    check_places("params", model, against, run_on)
    loaded = load(model, run_on.signature)
    check_mapping(loaded, run_on)
    source: _Keras | None = None
    if against.keras is not None:
        source = _load_keras(loaded, against, run_on, progress)
        known = (source.frozen, source.matching, source.turns)
        table = parameter_table(loaded.graph, loaded.subgraph, *known)
    elif against.against is not None:
        table = _with_file(loaded, load(against.against, run_on.signature), run_on)
    else:
        table = parameter_table(loaded.graph, loaded.subgraph, None, None)
    if run_on.data is None:
        _refuse_samples(run_on)
        return table
    job = prepare(model, replace(run_on, samples=run_on.samples or ALL_SAMPLES))
    return replace(table, ranges=_ranges(job, table, source, progress))


def _refuse_samples(run_on: RunOn) -> None:
    if run_on.samples is not None:
        raise UsageError(
            f"--samples {run_on.samples} is given, but no data to take samples from",
            hint="give the data to measure ranges on: --data DATA.npz",
        )


def _load_keras(loaded: Loaded, against: Against, run_on: RunOn, progress: Progress) -> _Keras:
    progress.stage("loading the Keras model")
    source = Path(against.keras) if isinstance(against.keras, str) else against.keras
    frozen = load_frozen(
        source, unsafe=against.unsafe, signature=run_on.signature, cached=against.cached
    )
    progress.stage("matching")
    inputs = pair_inputs(loaded.specs, frozen, run_on.inputs)
    return _Keras(frozen, *match_keras(loaded, frozen, inputs))


def _ranges(
    job: Job, table: ParameterTable, source: _Keras | None, progress: Progress
) -> RangeTable:
    by_keras = source is not None and not source.quantizes
    with Runner(job.instrumented) as runner:
        copies = float_copies(job, some_samples(job, runner, 1))
        copy = copy_of(copies, runner)
        sharing = share(job.loaded.graph, job.subgraph, copy.refused)
        seen: dict[int, Extent] = float_extents(copy, sharing, progress)
        rounded = fake_quant_pass(copy, sharing, seen, progress)
        if source is not None and by_keras:
            seen |= keras_extents(
                source.frozen, source.matching, job.samples, sharing.sources, progress
            )
    return range_table(
        job.subgraph,
        sharing,
        (float_pass(copy, sharing, seen), rounded),
        {
            row.tensor: (row.expected.nudged.scale, row.expected.nudged.zero_point)
            for row in table.tensors
            if row.status in ("equal", "differ", "tie") and row.expected and row.expected.trained
            if row.expected.nudged is not None
        },
        filled=fill(job.loaded.graph, job.subgraph, seen, _masks(job)),
        by_keras=by_keras,
        samples=job.samples,
    )


def _masks(job: Job) -> frozenset[int]:
    """Return the inputs that are given only one or two different values."""
    given = zip(job.samples.specs, job.samples.arrays, strict=True)
    pairs = ((spec.tensor.index, array) for spec, array in given if array.size)
    return frozenset(
        index for index, array in pairs if ((array == array.min()) | (array == array.max())).all()
    )


def _with_file(loaded: Loaded, good: Loaded, run_on: RunOn) -> ParameterTable:
    numbers = pair_file_inputs(loaded.specs, good.specs, run_on.inputs)
    traced, reference = (Holder(side.graph, side.subgraph) for side in (loaded, good))
    everything = [frozenset(range(len(s.subgraph.tensors))) for s in (loaded, good)]
    related = relate_files(traced, reference, numbers, everything[0], everything[1])
    tensors = loaded.subgraph.tensors
    expected = {
        mine: expected_by_file(tensors[mine], good.subgraph.tensors[other])
        for mine, other in related.values.items()
    }
    return ParameterTable(
        tensors=tensor_rows(loaded.subgraph, expected),
        weights=weight_rows(loaded.subgraph, {}, related.relation.checks),
        referenced=True,
    )
