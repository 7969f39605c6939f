"""What brings the two sides together, whatever the reference is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfldbg.compare.checks import WeightCheck
from tfldbg.match.model import Matching


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """Which tensor is compared with what, and what is known without running anything."""

    matching: Matching
    reasons: Mapping[int, str]
    """By tensor, why it has no local error."""
    checks: Mapping[int, WeightCheck] = field(default_factory=dict)
    """By output tensor, the comparison of an operator's weights."""
    joint: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By output tensor, the operators that are checked together in its local error."""
