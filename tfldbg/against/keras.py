"""A Keras model, frozen, as the reference."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.claims import Claimer
from tfldbg.against.parts.few import FewSamples
from tfldbg.against.parts.keras_relations import KerasRelations
from tfldbg.against.parts.verifying import MatchVerifier
from tfldbg.compare.counterparts import Counterpart, KerasCounterpart, Sides
from tfldbg.compare.keras_reference import KerasReference
from tfldbg.compare.lowered import LoweredReference, lowered_reference
from tfldbg.compare.runs import BesideOwnRuns, OwnRuns
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import KerasError, RunError, UsageError
from tfldbg.files import sha256_of_path
from tfldbg.match.ports import pair_inputs
from tfldbg.reference.keras import load_frozen
from tfldbg.run.room import check_constants

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.reference.evaluate import Frozen, Segment
    from tfldbg.run.job import Job

_WORTH = 100_000_000
"""The number of values over all samples for which it pays off to lower the model."""
TRAITS = Traits(full_precision=True, has_insides=True, divisible=True)


def _open(bench: Bench) -> Opened:
    """Load and match the model, verify accusing matches, and cut the model into operators.

    Raises:
        UsageError: State must be kept from step to step, which a frozen model does not do.
        RunError: The file is too large to compare its constants.
    """
    job = bench.job
    frozen = _loaded(bench)
    inputs = pair_inputs(job.loaded.specs, frozen, job.run_on.inputs)
    relations = KerasRelations(job, frozen, inputs)
    about = _about(bench.against.keras, frozen)
    bench.start(about, lambda: _at_rest(relations))
    few = FewSamples(job, frozen, inputs, bench.runner)
    matching = relations.by_graphs(few)
    relation, segments = relations.relate(matching)
    reference = _reference(frozen, relation, segments, job)
    claimer = Claimer(job, frozen, relations, few, about)
    claimed = claimer.of(matching, reference)
    claims = MatchVerifier(job, frozen, few, claimer).verified(claimed)
    if claims.accused or claims.unchecked:
        relations.check(claims.relation)
    if claims is not claimed or reference is None:
        if reference is not None:
            reference.close()
        segments = dict(claims.segments)
        reference = KerasReference(frozen, claims.relation, segments, job.samples)
    lowered = None
    if job.values >= _WORTH:
        first = few.first.first(1)
        lowered, _ = lowered_reference(frozen, claims.relation, segments, job, reference, first)
    if lowered is not None:
        reference.close()
    related, beside = _with_own_runs(claims.relation, lowered or reference, job, few.first)

    def counterpart(sides: Sides, stack: ExitStack) -> Counterpart:
        return KerasCounterpart(frozen, sides.relation, segments, sides.job, stack)

    return Opened(about, related, beside, counterpart=counterpart)


def _loaded(bench: Bench) -> Frozen:
    """Load and freeze the model."""
    job, against = bench.job, bench.against
    if job.samples.stream_steps > 1 and job.loaded.graph.keeps_state:
        raise UsageError(
            f"'{job.loaded.path}' keeps a state, but a Keras model is computed sample by "
            f"sample: it cannot follow streams of {job.samples.stream_steps} steps",
            hint="leave --steps out to compare single steps; for streams give "
            "--against RUN.h5, or your own function with --reference module:function",
        )
    check_constants(job.loaded)
    source: Any = against.keras
    return load_frozen(
        Path(source) if isinstance(source, str) else source,
        unsafe=against.unsafe,
        signature=job.run_on.signature,
        cached=against.cached,
    )


def _about(source: Any, frozen: Frozen) -> About:
    """Return the model's path and the framework that it was loaded with."""
    path = Path(source) if isinstance(source, (str, Path)) else None
    return About(
        "keras",
        str(path) if path else type(source).__name__,
        TRAITS,
        sha256=sha256_of_path(path) if path else None,
        versions={"reference": frozen.framework},
    )


def _at_rest(relations: KerasRelations) -> Relation:
    """Return the relation from names and structure only."""
    relation, _ = relations.relate(relations.by_graphs(None))
    relations.check(relation)
    return relation


def _reference(
    frozen: Frozen, relation: Relation, segments: Mapping[int, Segment], job: Job
) -> KerasReference | None:
    """Return the reference, None if a wrong match makes a graph that TensorFlow refuses."""
    try:
        return KerasReference(frozen, relation, segments, job.samples)
    except KerasError:
        return None


def _with_own_runs(
    relation: Relation, reference: KerasReference | LoweredReference, job: Job, first: Batch
) -> tuple[Relation, Reference]:
    """Add the file's own arithmetic to a reference that cannot divide some operators."""
    own = OwnRuns(job, relation.joint, first, members=True)
    try:
        own.compute(first)
        known = own.joint
    except RunError:
        known = frozenset()  # they are checked together
    if not known:
        own.close()
        return relation, reference
    related = replace(relation, unrounded_before=own.joint, own=own.members)
    return related, BesideOwnRuns(reference, own)


KIND = Kind(TRAITS, _open)
