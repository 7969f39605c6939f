"""An emulation of TFLite in float arithmetic as the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.float_copies import copy_of, float_copies, related_at_rest
from tfldbg.against.parts.rounded import EmulationReference, RoundedRunner
from tfldbg.compare.copies import free_or_nothing
from tfldbg.compare.float_kernels import computed_apart
from tfldbg.compare.ranges.calibrate import (
    FAKE_QUANT_PASS,
    FLOAT_PASS,
    Sharing,
    as_parameters,
    share,
)
from tfldbg.compare.ranges.following import liken, proximity
from tfldbg.compare.ranges.passes import Copy, Pass, fake_quant_pass, float_extents, float_pass
from tfldbg.diagnose.traits import Traits
from tfldbg.diagnose.words import short
from tfldbg.errors import RunError
from tfldbg.options.against import EMULATED, FAKE_QUANT_RANGES, FLOAT_RANGES

if TYPE_CHECKING:
    from tfldbg.match.model import Match
    from tfldbg.progress import Progress

_TRAITS = Traits(of_the_file=True, rounds=True, has_insides=True)
_PATHS = {
    EMULATED: "its own arithmetic in float, rounded to codes",
    FLOAT_RANGES: "its own arithmetic in float, rounded with the ranges of a float pass",
    FAKE_QUANT_RANGES: "its own arithmetic in float, rounded with the ranges of a "
    "fake-quantized pass",
}


def _open(bench: Bench) -> Opened:
    """Build the float copies, and compute the parameters if they are not the file's."""
    job = bench.job
    kind: Any = bench.against.reference
    about = About(kind, _PATHS[kind], _TRAITS)
    bench.start(about, lambda: related_at_rest(job))
    copies = float_copies(job, bench.first)
    copy, relation, parameters = copy_of(copies, bench.runner), copies.relation, None
    notes: tuple[str, ...] = ()
    if kind != EMULATED:
        found, notes = _calibrated(copy, kind, bench.progress)
        parameters = as_parameters(found.parameters)
        matching = replace(relation.matching, matches=_informed(relation.matching.matches, found))
        relation = replace(relation, matching=matching)
    kernels = copies.kernels
    free, more = free_or_nothing(lambda: RoundedRunner(copy, parameters, kernels), copies.first)
    reference = EmulationReference(copies.reference(free), job.subgraph)
    notes = (*notes, *more, *computed_apart(copies.built))
    return Opened(about, relation, reference, notes)


def _calibrated(copy: Copy, kind: str, progress: Progress) -> tuple[Pass, tuple[str, ...]]:
    """Return a pass over the data, with notes on its distance from the file's parameters."""
    sharing = share(copy.job.loaded.graph, copy.job.subgraph, copy.refused)
    try:
        seen = float_extents(copy, sharing, progress)
        if kind == FLOAT_RANGES:
            source, found = FLOAT_PASS, float_pass(copy, sharing, seen)
        else:
            source = FAKE_QUANT_PASS
            found = fake_quant_pass(copy, sharing, seen, progress)
    except RunError as error:
        raise RunError(
            f"cannot measure the ranges: {error.message}",
            hint="trace without --reference: each operator is then checked separately",
        ) from error
    return found, _notes(copy, sharing, source, found)


def _informed(matches: Mapping[int, Match], found: Pass) -> dict[int, Match]:
    """Return matches with the computed parameters, which may differ from the file's."""
    return {
        i: replace(match, parameters="computed", expected=(p.scale, p.zero_point))
        if (p := found.parameters.get(i)) is not None
        else match
        for i, match in matches.items()
    }


def _notes(copy: Copy, sharing: Sharing, source: str, found: Pass) -> tuple[str, ...]:
    tensors = copy.job.subgraph.tensors
    free = [tensors[i] for i in sharing.free]
    candidate = {i: (p.scale, p.zero_point) for i, p in found.parameters.items()}
    likeness = liken(source, free, candidate)
    if likeness is None:
        return ("no parameters depend on data",)
    where = short(tensors[likeness.farthest].name)
    said = f"the file's parameters compared with those of a {source}: {proximity(likeness, where)}"
    if found.settled:
        return (said,)
    return (said, f"the {source} had not settled after {found.rounds} rounds")


KIND = Kind(_TRAITS, _open)
