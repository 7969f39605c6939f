"""Try what would make an operator agree: other kernels, other options.

An operator that differs is run by itself, on the inputs that it really had: under the other sets of
kernels as it stands in the file, and as a float copy with one of its options changed.  What then
agrees with the reference tells the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator, run by itself in another way."""

    op: int
    tensor: int
    kind: Literal["runtime", "option"]
    value: str
    """The kernels, or the option with its value."""
    max_abs: float
    """Largest difference from the reference, real units."""
    max_lsb: float | None
    agrees: bool
    """Whether the difference is within the operator's bound."""
    as_traced: bool
    """Whether it is what the traced kernels computed, to a code."""
