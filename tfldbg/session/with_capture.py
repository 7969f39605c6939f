"""Compare with recorded tensors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.against.capture import CaptureReference, RecordedTensors, cut
from tfldbg.compare.against.recording_signs import QUANTIZED, how_made, signs_of
from tfldbg.compare.relation import Relation
from tfldbg.errors import CaptureError, DataError
from tfldbg.files import sha256, sha256_of_path
from tfldbg.graph.query import keeps_state
from tfldbg.match.capture import MatchedCapture, check_same_model, match_capture
from tfldbg.reference.capture import Capture, open_capture
from tfldbg.run.job import DEFAULT_SAMPLES, Job, Loaded, load
from tfldbg.session.comparisons import first_sample, other_file

if TYPE_CHECKING:
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.litert import Runner
    from tfldbg.run.samples import InputSpec


class WithCapture:
    """A recording of the same model, made anywhere.

    Args:
        source: Path of the HDF5 file or ``.npz``.
        run_on: The signature, the number of samples, and the names of inputs.
        label: How messages and reports call it, by default its path.

    Raises:
        CaptureError: The file is missing, damaged or no recording.
    """

    processes = 0

    def __init__(self, source: Path | str, run_on: RunOn, *, label: str | None = None) -> None:
        self._path = Path(source)
        self._label = label or str(self._path)
        self._run_on = run_on
        self._capture: Capture = open_capture(self._path)
        self._supplies = False
        self._miscast: dict[int, str] = {}
        self._notes: tuple[str, ...] = ()

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return the recorded inputs where no other data is given.

        Raises:
            CaptureError: The recording does not hold every input of the model.
            MatchError: It is of another model.
        """
        if given.data is not None:
            return given
        loaded = load(model, self._run_on.signature)
        matched = self._matched(loaded, {})
        check_same_model(self._label, self._capture.tensors, matched, loaded.subgraph)
        values = self._values(loaded, matched)
        missing = [s.label for s in loaded.specs if s.tensor.index not in values.recorded]
        if missing:
            self._capture.close()
            raise CaptureError(
                f"'{self._label}' does not hold the model's input '{missing[0]}', so nobody knows "
                "what the recorded run was given",
                hint="give the same data with --data, or record the inputs as well",
            )
        count = min(self._capture.samples, self._run_on.samples or DEFAULT_SAMPLES)
        self._supplies = True
        data = {s.label: _input(values, s.tensor.index, count) for s in loaded.specs}
        return replace(given, data=data)

    def load(self, job: Job) -> None:
        """Check that the recording is of the run's data.

        Raises:
            CaptureError: It has fewer samples.
            DataError: It was made from other data.
            MatchError: It is of another model.
        """
        matched = self._matched(job.loaded, {})
        check_same_model(self._label, self._capture.tensors, matched, job.subgraph)
        self._check_streams(job)
        if job.samples.count > self._capture.samples:
            raise CaptureError(
                f"'{self._label}' holds {self._capture.samples} samples, the data "
                f"{job.samples.count}",
                hint=f"trace the first of them alone: --samples {self._capture.samples}",
            )
        if not self._supplies:
            values = self._values(job.loaded, matched)
            self._miscast = _check_inputs(self._label, job, values)

    def _check_streams(self, job: Job) -> None:
        """Refuse to compare runs that reset a state at other places."""
        made, steps = self._capture.stream_steps, job.samples.stream_steps
        if made in (None, steps) or not keeps_state(job.loaded.graph):
            return
        raise CaptureError(
            f"'{job.loaded.path}' keeps a state, and '{self._label}' was recorded with --steps "
            f"{made}, this run with --steps {steps}",
            hint=f"trace it in the same way: --steps {made}",
        )

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Match the recorded tensors and cut the file into operators that can be run on them."""
        if runner is None:
            matched = self._matched(job.loaded, {})
            return Relation(matched.matching, job.skipped), None
        first = first_sample(job, runner)
        matched = self._matched(job.loaded, {i: v[0].size for i, v in first.codes.items()})
        self._notes = (*matched.notes, *_unrecorded(job, matched))
        values = self._values(job.loaded, matched)
        unmatched = {i: u.reason for i, u in matched.matching.unmatched.items()}
        operators = cut(job, values, unmatched, first)
        stack = ExitStack()
        stack.callback(self._capture.close)
        made = CaptureReference(job, values, operators, stack)
        relation = Relation(
            matched.matching,
            {**job.skipped, **unmatched, **operators.reasons},
            recording=signs_of(values),
            unrounded=operators.between,
            miscast=self._miscast,
        )
        return relation, made

    def describe(self, run: Run) -> Run:
        """Add the path, and the recording's runtime."""
        runtime = self._capture.said("runtime")
        made = (f"recorded under the {runtime} runtime",) if runtime else ()
        return replace(
            run,
            reference_kind="capture",
            reference_path=self._label,
            reference_sha256=sha256_of_path(self._path),
            data=self._label if self._supplies else run.data,
            notes=(
                *run.notes,
                *made,
                *other_file(self._capture, run.model_sha256),
                *self._notes,
            ),
        )

    def _matched(self, loaded: Loaded, sizes: dict[int, int]) -> MatchedCapture:
        capture, signature = self._capture, self._run_on.signature or ""
        same = capture.said("model_sha256") == sha256(loaded.data)
        specs = [_with_wanted(spec, self._run_on.inputs) for spec in loaded.specs]
        return match_capture(
            loaded.subgraph,
            specs,
            capture.tensors,
            same_file=same and capture.said("signature") == signature,
            sizes=sizes,
        )

    def _values(self, loaded: Loaded, matched: MatchedCapture) -> RecordedTensors:
        return RecordedTensors(self._capture, matched.recorded, loaded.subgraph)


def _unrecorded(job: Job, matched: MatchedCapture) -> tuple[str, ...]:
    """Say which inputs are believed to be what the recorded run was given."""
    labels = [s.label for s in job.loaded.specs if s.tensor.index not in matched.recorded]
    if not labels:
        return ()
    names = ", ".join(f"'{label}'" for label in labels)
    return (
        f"the recording does not hold {names}: operators that read it are checked on "
        f"{job.samples.source}, which must be what the recorded run was given",
    )


def _with_wanted(spec: InputSpec, mapping: Mapping[str, str]) -> InputSpec:
    """Return an input with the names that ``--input`` gives it."""
    wanted = (mapping[name] for name in spec.names if name in mapping)
    return replace(spec, names=(*spec.names, *wanted))


def _input(values: RecordedTensors, index: int, count: int) -> NDArray[Any]:
    """Return the recorded samples of an input as the model takes them: codes, or real units."""
    if values.keeps_codes(index) or values.subgraph.tensors[index].lsb is None:
        return values.codes(index, 0, count)
    return values.real(index, 0, count)


def _check_inputs(path: str, job: Job, values: RecordedTensors) -> dict[int, str]:
    """Compare the run's data with the recorded inputs, as far as those were recorded.

    Returns:
        By input that was recorded as some other cast of the data, which one.

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
    """Whether two samples are the same: floats to 1e-6, codes to so many steps."""
    if given.size != recorded.size:
        return False
    one, other = given.astype(np.float64).ravel(), recorded.astype(np.float64).ravel()
    if given.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=1e-6, atol=1e-6))
    return bool(np.abs(one - other).max(initial=0.0) <= steps)
