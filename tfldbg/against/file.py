"""A sound .tflite file as the reference."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.relate_files import RelatedFiles, relate_files
from tfldbg.compare.constants.files import Holder
from tfldbg.compare.copies import FileReference, Free, FreeFile
from tfldbg.compare.counterparts import (
    Counterpart,
    FileCounterpart,
    Sides,
    file_operators,
    ranges_of,
)
from tfldbg.compare.float_kernels import computed_apart, float_shadow
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import RunError
from tfldbg.files import sha256
from tfldbg.match.files import pair_file_inputs
from tfldbg.rewrite.emit import is_real
from tfldbg.run.job import Job, load, prepare
from tfldbg.run.room import check_constants

if TYPE_CHECKING:
    from tfldbg.graph.variables import Source

_TRAITS = Traits(other_file=True, has_insides=True, divisible=True)


def _open(bench: Bench) -> Opened:
    """Pair the operators of both files, and build float copies of the other file's operators.

    Raises:
        RunError: The files are too large to compare their constants.
    """
    job = bench.job
    good, numbers = _prepared(bench)
    about = About("tflite", good.loaded.path, _TRAITS, sha256=sha256(good.loaded.data))
    traced, other = (Holder(side.loaded.graph, side.subgraph) for side in (job, good))
    related = relate_files(traced, other, numbers, job.readable, good.readable, job.states)
    relation = replace(related.relation, reasons={**job.skipped, **related.relation.reasons})
    bench.start(about, lambda: relation)
    built = float_shadow(good.loaded, related.steps, bench.first)
    relation = replace(relation, reasons={**relation.reasons, **built.reasons(related.steps)})
    free, notes = _free(good, related)
    variables = _variables(good, related.values)
    reference = FileReference(built, related.aliases, free, variables=variables)
    return Opened(
        about,
        relation,
        reference,
        (*related.notes, *notes, *computed_apart(built)),
        lambda sides, stack: _counterpart(good, related, sides, stack),
    )


def _prepared(bench: Bench) -> tuple[Job, tuple[int, ...]]:
    """Read the other file and give its inputs the same samples.

    Returns:
        The other file, and the number of the traced file's input for each of its inputs.
    """
    job, given = bench.job, bench.against.against
    source: Any = Path(given) if isinstance(given, str) else given
    loaded = load(source, job.run_on.signature)
    check_constants(job.loaded, loaded)
    numbers = pair_file_inputs(job.loaded.specs, loaded.specs, job.run_on.inputs)
    real = job.samples.real(0, job.samples.count)
    data = {
        loaded.specs[number].label: np.asarray(array)
        for number, array in zip(numbers, real, strict=True)
    }
    count = job.samples.count
    run_on = replace(job.run_on, data=data or None, samples=count, inputs={}, scale=None)
    return prepare(source, run_on), numbers


def _free(good: Job, related: RelatedFiles) -> tuple[Free | None, tuple[str, ...]]:
    """Return the other file running free, with a note if its runtime refuses it."""
    try:
        return FreeFile(good, related.values), ()
    except RunError as error:
        return None, (f"no accumulated error: {error.message}",)


def _counterpart(good: Job, related: RelatedFiles, sides: Sides, stack: ExitStack) -> Counterpart:
    """Return float copies of the other file's operators, and the ranges of its tensors."""
    known = related.values.keys()
    steps = [
        step
        for step in related.steps
        if all(t.index in known or not is_real(t) for t in step.feeds.values())
    ]
    operators, _ = file_operators(good.loaded, steps, related.aliases, sides.first, stack)
    ranges = ranges_of(good.subgraph, related.values)
    return FileCounterpart(sides.reference, operators, own=False, ranges=ranges)


def _variables(good: Job, values: Mapping[int, int]) -> dict[int, Source]:
    """Return the sources of the other file's variables, as tensors of the traced file.

    Args:
        good: The other file.
        values: The counterpart of each tensor of the traced file.
    """
    mine = {other: index for index, other in values.items()}
    return {
        mine[index]: replace(source, tensor=mine[source.tensor])
        for index, source in good.sources.items()
        if index in mine and source.tensor in mine
    }


KIND = Kind(_TRAITS, _open)
