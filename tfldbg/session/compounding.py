"""Measure how errors compound, whatever the reference is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tfldbg.compare.compounding.measure import measure
from tfldbg.compare.compounding.operators import Sides, own_copies
from tfldbg.compare.compounding.shares import Compounding
from tfldbg.errors import RunError

if TYPE_CHECKING:
    from tfldbg.against.opened import Bench, Opened
    from tfldbg.compare.stream import Reference


def compounding(bench: Bench, opened: Opened, reference: Reference) -> Compounding | None:
    """Measure what each operator contributes to the error of the final outputs.

    Args:
        bench: The traced file.
        opened: What it is compared with.
        reference: The running reference.

    Returns:
        The shares; None if the reference cannot be divided.

    Raises:
        KerasError: The reference cannot compute the data.
    """
    if opened.counterpart is None:
        return None
    job, runner = bench.job, bench.runner
    with ExitStack() as stack:
        try:
            copies = own_copies(job, bench.first, stack)
            sides = Sides(job, runner, bench.first, reference, opened.relation, copies)
            counterpart = opened.counterpart(sides, stack)
            return measure(sides, counterpart, stack, bench.progress)
        except RunError as error:
            return Compounding(0, (), (), None, 0.0, (f"not measured: {error.message}",))
