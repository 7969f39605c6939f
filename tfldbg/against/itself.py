"""The file's own float arithmetic as the reference."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.float_copies import float_copies, free_copies, related_at_rest
from tfldbg.compare.copies import free_or_nothing
from tfldbg.compare.float_kernels import computed_apart
from tfldbg.diagnose.traits import ITSELF

if TYPE_CHECKING:
    from tfldbg.compare.counterparts import Counterpart, Sides

_ABOUT = About("self", "its own float arithmetic", ITSELF)


def _open(bench: Bench) -> Opened:
    """Build the float copies of the file's operators, and of the file as a whole."""
    job = bench.job
    bench.start(_ABOUT, lambda: related_at_rest(job))
    copies = float_copies(job, bench.first)
    free, notes = free_or_nothing(lambda: free_copies(copies), copies.first)
    reference, notes = copies.reference(free), (*notes, *computed_apart(copies.built))
    return Opened(_ABOUT, copies.relation, reference, notes, _counterpart)


def _counterpart(sides: Sides, stack: ExitStack) -> Counterpart:
    """Return the float copies; the float copy of the whole file reads the file's own inputs."""
    from tfldbg.compare.counterparts import FileCounterpart

    del stack
    job, copies = sides.job, sides.copies
    given = (job.subgraph.operators[i] for i in copies.refused)
    same = {*job.subgraph.inputs, *(out for op in given for out in op.outputs)}
    return FileCounterpart(sides.reference, copies.operators, own=True, same=same)


KIND = Kind(ITSELF, _open)
