"""Compare with what a function of the user's computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.against.file import nothing_free
from tfldbg.compare.batch import Batch, Computed, in_real_units
from tfldbg.errors import UsageError
from tfldbg.files import scratch_folder
from tfldbg.graph.query import non_activations, producers
from tfldbg.reference.function import FunctionRecorder, Given
from tfldbg.session.float_copies import FloatCopies, float_copies
from tfldbg.session.with_capture import WithCapture

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource, ReferenceFunction
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

_AT_ONCE = 32
"""Samples that the function is called with."""


class WithFunction:
    """A function; what it computes is compared as a recording is.

    That judges an operator only where both sides compute the same thing: float operators with float
    weights, and tensors that the function returns in codes.  What it computes in float although the
    file has codes there, or quantized weights, is off by their rounding and more.  Such operators,
    and those that cannot be run on the function's values, are checked against their own float
    arithmetic instead.

    Args:
        name: How reports call it.
        function: The reference.
        run_on: As for `WithCapture`.
    """

    processes = 0

    def __init__(self, name: str, function: ReferenceFunction, run_on: RunOn) -> None:
        self._name, self._function, self._run_on = name, function, run_on
        self._own: tuple[int, ...] = ()

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Call the function on all samples and keep what it returns in a temporary file.

        Raises:
            PluginError: The function fails.
            MatchError: Hardly anything that it returns has a counterpart in the file.
        """
        if not job.subgraph.inputs:
            raise UsageError(
                f"'{job.loaded.path}' has no inputs, so the reference '{self._name}' cannot be "
                "called with any",
                hint="record it instead, and compare with --against RUN.h5",
            )
        recorder = FunctionRecorder(self._name, self._function, job.subgraph)
        with ExitStack() as stack:
            path = stack.enter_context(scratch_folder()) / "reference.h5"
            recorder.record(_batches(job), path)
            self._capture = WithCapture(path, self._run_on, label=self._name)
            self._capture.load(job)
            self._stack = stack.pop_all()
        self._floats = recorder.floats

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Match what it computes as a recording is matched; build float copies for the rest."""
        relation, recorded = self._capture.relate(job, runner)
        if runner is None or recorded is None:
            return relation, recorded
        copies = float_copies(job, runner)
        left, refused = self._left_to(copies, relation), copies.relation.reasons
        self._own = tuple(dict.fromkeys(producers(job.subgraph)[i].index for i in left))
        reasons = {**relation.reasons, **{i: refused[i] for i in left if i in refused}}
        own = copies.reference(nothing_free, self._stack)
        self._stack.callback(recorded.close)
        related = replace(relation, reasons=reasons, own=frozenset(left))
        return related, _Both(recorded, own, related.own, self._stack)

    def _left_to(self, copies: FloatCopies, relation: Relation) -> tuple[int, ...]:
        """Return the tensors that only float copies can check."""
        subgraph, matches = copies.job.subgraph, relation.matching.matches
        others = non_activations(subgraph)
        return tuple(
            i
            for op in subgraph.operators
            for i in op.outputs
            if i not in others
            and (
                i not in matches
                or i in relation.reasons
                or (matches[i].node in self._floats and not _float_alone(subgraph, op))
            )
        )

    def describe(self, run: Run) -> Run:
        """Add its name, and what it does not check."""
        described = self._capture.describe(run)
        notes = described.notes
        if self._own:
            listed = ", ".join(map(str, self._own[:8])) + (", ..." if len(self._own) > 8 else "")
            notes = (
                *notes,
                f"'{self._name}' cannot judge operators {listed}, which are checked against their "
                "own float arithmetic; only their accumulated error is against it",
            )
        return replace(described, reference_path=self._name, reference_sha256=None, notes=notes)


class _Both:
    """The recorded values, and float copies of the operators that they cannot judge."""

    batch: int | None = None

    def __init__(
        self, recorded: Reference, own: Reference, left: frozenset[int], stack: ExitStack
    ) -> None:
        self._recorded, self._own, self._left, self._stack = recorded, own, left, stack

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch."""
        recorded, own = self._recorded.compute(batch), self._own.compute(batch)
        local = {i: v for i, v in recorded.local.items() if i not in self._left}
        local |= {i: v for i, v in own.local.items() if i in self._left}
        tested = {i: v for i, v in recorded.tested.items() if i not in self._left}
        return replace(recorded, local=local, tested=tested)

    def close(self) -> None:
        """Close both, and delete the recording."""
        self._stack.close()


def _float_alone(subgraph: Subgraph, op: Operator) -> bool:
    """Whether nothing of an operator was ever rounded to fewer bits than float32."""
    writers = producers(subgraph)
    for index in (*op.inputs, *op.outputs):
        if index < 0:
            continue
        tensor, writer = subgraph.tensors[index], writers.get(index)
        quant = tensor.quant
        rounded = quant is not None and (quant.scale.size or quant.scale_tensor is not None)
        if rounded or tensor.type == "FLOAT16":
            return False
        if writer is not None and writer.kind == "DEQUANTIZE":
            return False
    return True


def _batches(job: Job) -> Iterator[Given]:
    """Yield the samples as both sides take them: the function sees what the file was given.

    Of streams it sees a whole one at a time.
    """
    steps = job.samples.stream_steps
    size = steps if steps > 1 else _AT_ONCE
    tensors = [job.subgraph.tensors[i] for i in job.subgraph.inputs]
    for start in range(0, job.samples.count, size):
        stop = min(start + size, job.samples.count)
        rows = [job.samples.codes(number) for number in range(start, stop)]
        codes = [np.stack(column) for column in zip(*rows, strict=True)]
        arrays = {}
        for spec, tensor, array in zip(job.loaded.specs, tensors, codes, strict=True):
            one = tensor.shape[:1] == (1,)  # the tensor's own batch
            shaped = array.reshape(len(array), *array.shape[2:]) if one else array
            quantized = tensor.lsb is not None
            # The function may write to its arrays; the codes are recorded.
            arrays[spec.label] = in_real_units(tensor, shaped) if quantized else shaped.copy()
        yield Given(start, arrays, dict(zip(job.subgraph.inputs, codes, strict=True)))
