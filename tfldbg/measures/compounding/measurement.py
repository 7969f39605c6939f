"""The operators that cause the error of the final outputs, measured after the stream."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

from tfldbg.errors import RunError, UsageError
from tfldbg.measures.compounding import shares
from tfldbg.measures.compounding.section import compounding_section
from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result
    from tfldbg.diagnose.traits import Traits
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure


class CompoundingMeasurement(Measurement):
    """``--compounding``."""

    name = "compounding"
    result = shares.Compounding
    keys: ClassVar = {"compounding": (shares.Compounding | None, "None without --compounding.")}
    timed = True

    def check(self, measure: Measure, traits: Traits, steps: int) -> None:
        """Check that the reference's operators can be computed on other values.

        Raises:
            UsageError: They cannot, or samples are steps of a stream.
        """
        if not measure.compounding:
            return
        if not traits.divisible:
            raise UsageError(
                "--compounding is not possible against this reference: its operators cannot be "
                "run in float on other values",
                hint="leave --compounding out, or trace with --keras, --against GOOD.tflite or no "
                "reference",
            )
        if steps > 1:
            raise UsageError(
                "--compounding follows errors through one run of the model, not from step to step "
                "of a stream",
                hint="leave out --steps or --compounding",
            )

    def finish(self, traced: Traced) -> Finished:
        """Measure the contribution of each operator to the error of the final outputs.

        Raises:
            KerasError: The reference cannot compute the data.
        """
        if not traced.measure.compounding or traced.opened.counterpart is None:
            return Finished()
        from tfldbg.compare.counterparts import Sides, own_copies
        from tfldbg.measures.compounding.measure import measure

        bench, opened = traced.bench, traced.opened
        with ExitStack() as stack:
            try:
                copies = own_copies(bench.job, bench.first, stack)
                sides = Sides(
                    bench.job,
                    bench.runner,
                    bench.first,
                    traced.reference,
                    opened.relation,
                    copies,
                )
                counterpart = traced.opened.counterpart(sides, stack)
                return Finished(measure(sides, counterpart, stack, bench.progress))
            except RunError as error:
                said = f"not measured: {error.message}"
                return Finished(shares.Compounding(0, (), (), None, 0.0, (said,)))

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return the shares, the largest first."""
        found = result.evidence.measures.get(self.name)
        return compounding_section(found, everything=shown.everything)
