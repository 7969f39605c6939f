"""The options of the verdict and of the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tfldbg.options.declare import check, nested, option

PANEL = "Judgement"
FLOAT_RELATIVE = 1e-4
"""The largest difference, relative to the largest value, of float32 sums of thousands of terms in
another order."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The local error that arithmetic explains, by kind of operator.  No threshold is fitted.

    Raises:
        UsageError: A threshold is negative or not finite.
    """

    PANEL: ClassVar[str] = PANEL

    local_lsb: float = option(
        default=0.75,
        metavar="LSB",
        least=0,
        help="The largest local error of a quantized operator that rounding explains.",
    )
    """For quantized outputs: half a step of rounding, a quarter for fixed-point multipliers."""
    int16_lsb: float = option(default=8.0, least=0)
    """For 16-bit functions that kernels interpolate in tables, with an error of several steps."""
    recurrent_lsb: float = option(default=8.0, least=0)
    """For operators that loop over time and read their own rounded state."""
    float_relative: float = option(
        default=FLOAT_RELATIVE,
        names=("--float-tolerance",),
        metavar="R",
        least=0,
        help="The same for float operators, as a share of their range.",
    )
    """For float outputs: the largest difference, relative to the largest value."""
    hybrid_relative: float = option(
        default=0.02,
        names=("--hybrid-tolerance",),
        metavar="R",
        least=0,
        help="The same for float operators with integer weights (RMSE/RMS).",
    )
    """For float activations with integer weights, if the weights give no closer bound: RMSE over
    RMS."""
    saturation: float = option(default=0.001, least=0)
    """The share of an output's elements beyond its range from which there is a finding."""

    def __post_init__(self) -> None:
        check(self)

    def lsb(self, rule: str) -> float:
        """Return the limit of a quantized output in LSB, by the rule of its bound."""
        return {"table": self.int16_lsb, "recurrent": self.recurrent_lsb}.get(rule, self.local_lsb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The thresholds of the verdict, and the rules that decide the exit code."""

    PANEL: ClassVar[str] = PANEL

    fail_on: Sequence[str] | None = option(
        python=False,
        metavar="RULE",
        many=True,
        shown="diverged",
        help="A rule that decides the exit code, such as 'sqnr>=30db', 'CONV_2D:local<=1lsb' or "
        "'diverged'. Repeatable.",
    )
    """The rules that decide the exit code."""
    tolerances: str | None = option(
        python=False, metavar="F.toml", help="A file of rules; see docs/ci.md."
    )
    """The path of a file of rules."""
    thresholds: Thresholds = nested(Thresholds)
    """The local error that arithmetic explains, by kind of operator."""
