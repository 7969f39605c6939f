"""What brings the two sides together, whatever the reference is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import WeightCheck
    from tfldbg.match.model import Matching


@dataclass(frozen=True, slots=True)
class Port:
    """An output of the file and the reference's output with the same value."""

    tensor: int
    position: int
    """Among the file's outputs."""
    reference_position: int
    """Among the reference's outputs."""
    reference: str
    """What the reference calls it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Signs of how a recording was made."""

    half_precision: bool
    """Whether every recorded float value that no input holds is a float16 number."""
    copies: tuple[tuple[int, int], ...]
    """Tensors that hold bytes of a tensor written later, which nothing copies there; and that."""


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
    unrounded_before: frozenset[int] = frozenset()
    """Those of them whose error is that of the last operator alone and of the float arithmetic of
    all: the rounding of the operators before it is taken out."""
    beyond: frozenset[int] = frozenset()
    """Outputs that the reference computes from more than their operators read."""
    trained: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """By tensor the range of the reference's fake-quant as it was trained, real units."""
    idle: frozenset[int] = frozenset()
    """Tensors whose counterpart is also that of what their operators read, so that nothing is
    computed between the two."""
    operations: Mapping[int, str] = field(default_factory=dict)
    """By tensor the reference's operation that computes it, where the reference has a graph."""
    ports: tuple[Port, ...] = ()
    """The outputs of the file that are outputs of the reference."""
    recording: Recording | None = None
    """What a recording gives away about how it was made; None for other references."""
    unrounded: frozenset[int] = frozenset()
    """Tensors with codes whose recorded values lie between them: float arithmetic made these, from
    constants that may never have been rounded."""
    own: frozenset[int] = frozenset()
    """Tensors that are checked against the file's own float arithmetic although there is another
    reference, which cannot judge them."""
    fed_alike: frozenset[int] = frozenset()
    """Outputs whose own error is that of the samples in which both sides read the same."""
    miscast: Mapping[int, str] = field(default_factory=dict)
    """By input, how recorded codes were made of the data, where rounding did not make them."""
