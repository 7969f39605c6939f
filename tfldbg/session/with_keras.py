"""Compare with a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.compare.against.few import FewSamples
from tfldbg.compare.against.keras import KerasReference, KerasRelations
from tfldbg.compare.against.runs import BesideOwnRuns, OwnRuns
from tfldbg.compare.compounding.operators import Counterpart, KerasCounterpart, Sides
from tfldbg.errors import KerasError, RunError, UsageError
from tfldbg.files import sha256_of_path
from tfldbg.graph.query import keeps_state
from tfldbg.match.ports import pair_inputs
from tfldbg.reference.keras import load_frozen
from tfldbg.run.room import check_constants
from tfldbg.session.claims import Claimer
from tfldbg.session.verifying import Verifier

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.against import Against
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.reference.evaluate import Segment
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


class WithKeras:
    """A Keras model, frozen.

    Args:
        against: The model: a path, a live model, or what `tfldbg.reference.keras.load_frozen`
            returned.
        run_on: The signature, and the names of inputs.
    """

    processes = 0

    def __init__(self, against: Against, run_on: RunOn) -> None:
        source = against.keras
        self._source: Any = Path(source) if isinstance(source, (str, Path)) else source
        self._against, self._run_on = against, run_on

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Load and freeze the model.

        Raises:
            UsageError: State is to be kept from step to step, which the frozen model does not.
            RunError: The file is too large to compare its constants.
        """
        if job.samples.stream_steps > 1 and keeps_state(job.loaded.graph):
            raise UsageError(
                f"'{job.loaded.path}' keeps a state, and a Keras model is computed sample by "
                f"sample: it cannot follow streams of {job.samples.stream_steps} steps",
                hint="leave --steps out to compare single steps; for streams give "
                "--against RUN.h5, or a function of your own with --reference module:function",
            )
        check_constants(job.loaded)
        self._frozen = load_frozen(
            self._source,
            unsafe=self._against.unsafe,
            signature=self._run_on.signature,
            cached=self._against.cached,
        )
        self._inputs = pair_inputs(job.loaded.specs, self._frozen, self._run_on.inputs)

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Match the graphs, check what accuses, and cut the Keras model into operators."""
        relations = KerasRelations(job, self._frozen, self._inputs)
        matching = relations.by_graphs(runner)
        relation, segments = relations.relate(matching)
        self._segments: Mapping[int, Segment] = segments
        if runner is None:
            relations.check(relation)
            return relation, None
        reference = self._reference(relation, job)
        few = FewSamples(job, self._frozen, self._inputs, runner)
        claimer = Claimer(job, self._frozen, relations, few)
        first = claimer.of(matching, reference)
        claims = Verifier(job, self._frozen, few, claimer).verified(first)
        if claims.accused or claims.unchecked:
            relations.check(claims.relation)
        if claims is not first or reference is None:
            if reference is not None:
                reference.close()
            self._segments = claims.segments
            reference = KerasReference(self._frozen, claims.relation, claims.segments, job.samples)
        return _with_own_runs(claims.relation, reference, job, few.first)

    def _reference(self, relation: Relation, job: Job) -> KerasReference | None:
        """Return the reference; None where a wrong match makes a graph that TensorFlow refuses."""
        try:
            return KerasReference(self._frozen, relation, self._segments, job.samples)
        except KerasError:
            return None

    def counterpart(self, sides: Sides, stack: ExitStack) -> Counterpart:
        """Return the model's operators with its own weights."""
        return KerasCounterpart(self._frozen, sides.relation, self._segments, sides.job, stack)

    def describe(self, run: Run) -> Run:
        """Add the path and the framework."""
        path = self._source if isinstance(self._source, Path) else None
        return replace(
            run,
            reference_kind="keras",
            reference_path=str(path) if path else type(self._source).__name__,
            reference_sha256=sha256_of_path(path) if path else None,
            versions={**run.versions, "reference": self._frozen.framework},
        )


def _with_own_runs(
    relation: Relation, reference: KerasReference, job: Job, first: Batch
) -> tuple[Relation, Reference]:
    """Let the file's own arithmetic run beside a reference that cannot divide some operators."""
    own = OwnRuns(job, relation.joint, first, members=True)
    try:
        own.compute(first)
        known = own.joint
    except RunError:
        known = frozenset()  # they are checked as they are
    if not known:
        own.close()
        return relation, reference
    related = replace(relation, unrounded_before=own.joint, own=own.members)
    return related, BesideOwnRuns(reference, own)
