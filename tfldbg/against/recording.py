"""A recording of the same model, from any device, as the reference."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.recorded import CaptureReference, RecordedTensors, single_operators
from tfldbg.against.parts.recording_signs import QUANTIZED, how_made, signs_of
from tfldbg.compare.relation import Relation
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import CaptureError, DataError
from tfldbg.files import sha256, sha256_of_path
from tfldbg.match.capture import MatchedCapture, check_recorded_model, match_capture
from tfldbg.reference.capture import Capture, open_capture
from tfldbg.run.job import DEFAULT_SAMPLES, Job, Loaded, load

if TYPE_CHECKING:
    from tfldbg.options.against import Against
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.samples import InputSpec


TRAITS = Traits(kernels=True, recorded=True)


def _recorded_inputs(model: ModelSource, against: Against, run_on: RunOn) -> RunOn:
    """Return the recorded inputs as the data if no other data is given.

    Raises:
        CaptureError: The recording does not hold all inputs of the model.
        MatchError: It is of another model.
    """
    if run_on.data is not None:
        return run_on
    label = str(against.against)
    loaded = load(model, run_on.signature)
    with open_capture(Path(label)) as capture:
        matched = _matched(capture, loaded, run_on, {})
        check_recorded_model(label, capture.tensors, matched, loaded.subgraph)
        values = RecordedTensors(capture, matched.recorded, loaded.subgraph)
        missing = [s.label for s in loaded.specs if s.tensor.index not in values.recorded]
        if missing:
            raise CaptureError(
                f"'{label}' does not hold the model's input '{missing[0]}', so the data of the "
                "recorded run is unknown",
                hint="give the same data with --data, or record the inputs too",
            )
        count = min(capture.samples, run_on.samples or DEFAULT_SAMPLES)
        data = {s.label: _input(values, s.tensor.index, count) for s in loaded.specs}
    return replace(run_on, data=data)


def _open(bench: Bench) -> Opened:
    """Open the requested recording."""
    path = str(bench.against.against)
    opened = open_recording(bench, Path(path), path, check_inputs=bench.given.data is not None)
    if bench.given.data is not None:
        return opened
    return replace(opened, about=replace(opened.about, data=path))


def open_recording(bench: Bench, path: Path, label: str, *, check_inputs: bool = True) -> Opened:
    """Match the recorded tensors and cut the file into operators that can be run on them.

    Args:
        bench: The traced file.
        path: The HDF5 file or ``.npz``.
        label: Its name in messages and reports.
        check_inputs: True to compare the recorded inputs with the run's data.

    Raises:
        CaptureError: The file is missing, damaged, not a recording, or has fewer samples.
        DataError: It was made from other data.
        MatchError: It is of another model.
    """
    job = bench.job
    with ExitStack() as undo:
        capture = undo.enter_context(open_capture(path))
        matched = _matched(capture, job.loaded, job.run_on, {})
        check_recorded_model(label, capture.tensors, matched, job.subgraph)
        _check_extent(capture, job, label)
        at_rest = matched.matching
        miscast: dict[int, str] = {}
        if check_inputs:
            values = RecordedTensors(capture, matched.recorded, job.subgraph)
            miscast = _check_inputs(label, job, values)
        about = About("capture", label, TRAITS, sha256=sha256_of_path(path))
        bench.start(about, lambda: Relation(at_rest, job.skipped))
        sizes = {i: v[0].size for i, v in bench.first.codes.items()}
        matched = _matched(capture, job.loaded, job.run_on, sizes)
        values = RecordedTensors(capture, matched.recorded, job.subgraph)
        unmatched = {i: u.reason for i, u in matched.matching.unmatched.items()}
        operators = single_operators(job, values, unmatched, bench.first)
        reference = CaptureReference(job, values, operators)
        undo.pop_all()
    relation = Relation(
        matched.matching,
        {**job.skipped, **unmatched, **operators.reasons},
        recording=signs_of(values),
        unrounded=operators.between,
        miscast=miscast,
    )
    return Opened(about, relation, reference, _notes(capture, job, matched), read=reference.read)


def _matched(
    capture: Capture, loaded: Loaded, run_on: RunOn, sizes: Mapping[int, int]
) -> MatchedCapture:
    """Match the recorded tensors, also by their sizes if these are known."""
    same = capture.said("model_sha256") == sha256(loaded.data)
    specs = [_with_wanted(spec, run_on.inputs) for spec in loaded.specs]
    return match_capture(
        loaded.subgraph,
        specs,
        capture.tensors,
        same_file=same and capture.said("signature") == (run_on.signature or ""),
        sizes=dict(sizes),
    )


def _check_extent(capture: Capture, job: Job, label: str) -> None:
    """Refuse a recording of fewer samples, or one that reset a state at other samples."""
    made, steps = capture.stream_steps, job.samples.stream_steps
    if made not in (None, steps) and job.loaded.graph.keeps_state:
        raise CaptureError(
            f"'{job.loaded.path}' keeps a state, and '{label}' was recorded with --steps "
            f"{made}, but this run has --steps {steps}",
            hint=f"trace with the same steps: --steps {made}",
        )
    if job.samples.count > capture.samples:
        raise CaptureError(
            f"'{label}' holds {capture.samples} samples, but the data {job.samples.count}",
            hint=f"trace only the first of them: --samples {capture.samples}",
        )


def _notes(capture: Capture, job: Job, matched: MatchedCapture) -> tuple[str, ...]:
    """Return notes on how the recording was made, and on what it does not hold."""
    runtime = capture.said("runtime")
    made = (f"recorded under the {runtime} runtime",) if runtime else ()
    other = other_file(capture, sha256(job.loaded.data))
    return (*made, *other, *matched.notes, *_unrecorded(job, matched))


def other_file(capture: Capture, model_sha256: str | None) -> tuple[str, ...]:
    """Return a note if a recording is known to be of another file.

    Args:
        capture: The recording.
        model_sha256: The SHA-256 of the file that it is compared with, None if unknown.
    """
    recorded = capture.said("model_sha256")
    if not recorded or not model_sha256 or recorded == model_sha256:
        return ()
    return (
        f"'{capture.path}' was recorded from another file, whose constants and options may "
        "differ: compare the files with tfldbg trace MODEL.tflite --against OTHER.tflite",
    )


def _unrecorded(job: Job, matched: MatchedCapture) -> tuple[str, ...]:
    """Return a note on inputs that are assumed to be those of the recorded run."""
    labels = [s.label for s in job.loaded.specs if s.tensor.index not in matched.recorded]
    if not labels:
        return ()
    names = ", ".join(f"'{label}'" for label in labels)
    return (
        f"the recording does not hold {names}: operators that read it are checked on "
        f"{job.samples.source}, which must be the data of the recorded run",
    )


def _with_wanted(spec: InputSpec, mapping: Mapping[str, str]) -> InputSpec:
    """Return an input with the additional names from ``--input``."""
    wanted = (mapping[name] for name in spec.names if name in mapping)
    return replace(spec, names=(*spec.names, *wanted))


def _input(values: RecordedTensors, index: int, count: int) -> NDArray[Any]:
    """Return the recorded samples of an input for the model: codes, or real units."""
    if values.keeps_codes(index) or values.subgraph.tensors[index].lsb is None:
        return values.codes(index, 0, count)
    return values.real(index, 0, count)


def _check_inputs(path: str, job: Job, values: RecordedTensors) -> dict[int, str]:
    """Compare the run's data with the inputs that were recorded.

    Returns:
        The wrong cast that made the recorded codes, for each input that has one.

    Raises:
        DataError: They differ, and no cast explains it.
    """
    miscast = {}
    for number, index in enumerate(job.subgraph.inputs):
        if index not in values.recorded:
            continue
        count = job.samples.count
        made = how_made(
            job.subgraph.tensors[index],
            np.asarray(job.samples.arrays[number][:count]),
            values.codes(index, 0, count),
        )
        if made is not None:
            miscast.update({index: made} if made != QUANTIZED else {})
            continue
        rounded = job.subgraph.tensors[index].lsb is not None and not values.keeps_codes(index)
        for sample in range(job.samples.count):
            given = job.samples.codes(sample)[number]
            recorded = values.codes(index, sample, sample + 1)
            if not _agree(given, recorded, steps=1 if rounded else 0):
                label = job.loaded.specs[number].label
                raise DataError(
                    f"'{path}' was recorded from other data: sample {sample} of input '{label}' is "
                    f"not that of '{job.samples.source}'",
                    hint="leave --data out to run on the recorded inputs, or give the same data in "
                    "the same order",
                )
    return miscast


def _agree(given: NDArray[Any], recorded: NDArray[Any], steps: int) -> bool:
    """Return whether two samples are equal: floats to 1e-6, codes to some steps."""
    if given.size != recorded.size:
        return False
    one, other = given.astype(np.float64).ravel(), recorded.astype(np.float64).ravel()
    if given.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=1e-6, atol=1e-6))
    return bool(np.abs(one - other).max(initial=0.0) <= steps)


KIND = Kind(TRAITS, _open, run_on=_recorded_inputs)
