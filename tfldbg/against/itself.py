"""The file's own float arithmetic as the reference."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.against.parts.float_copies import float_copies, related_at_rest
from tfldbg.compare.copies import TwinsRunner, free_or_nothing
from tfldbg.diagnose.traits import ITSELF

if TYPE_CHECKING:
    from tfldbg.compare.counterparts import Counterpart, Sides
    from tfldbg.run.job import Job

_MANY = 32
"""The number of samples from which a process for each copy pays off."""
_SMALL = 64 << 20
"""The size of a file in bytes up to which its float32 weights may be in memory for each copy."""
_ABOUT = About("self", "its own float arithmetic", ITSELF)


def _open(bench: Bench) -> Opened:
    """Build the float copies of the file's operators, and of the file as a whole."""
    job = bench.job
    bench.start(_ABOUT, lambda: related_at_rest(job))
    copies, stack = float_copies(job, bench.first), ExitStack()
    free, notes = free_or_nothing(
        lambda: TwinsRunner(job, copies.refused, stack, apart=_pays_off(job)),
        copies.first,
    )
    reference = copies.reference(free, stack)
    return Opened(_ABOUT, copies.relation, reference, notes, _counterpart, emulates=True)


def _counterpart(sides: Sides, stack: ExitStack) -> Counterpart:
    """Return the float copies; the float copy of the whole file reads the file's own inputs."""
    from tfldbg.compare.counterparts import FileCounterpart

    del stack
    job, copies = sides.job, sides.copies
    given = (job.subgraph.operators[i] for i in copies.refused)
    same = {*job.subgraph.inputs, *(out for op in given for out in op.outputs)}
    return FileCounterpart(sides.reference, copies.operators, own=True, same=same)


def _pays_off(job: Job) -> bool:
    """Return whether to run each float copy of the whole file in a separate process."""
    return job.samples.count >= _MANY and len(job.loaded.graph.data) <= _SMALL


KIND = Kind(ITSELF, _open)
