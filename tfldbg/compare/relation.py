"""The relation of a file to a reference of any kind."""

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
    """Its position among the file's outputs."""
    reference_position: int
    """Its position among the reference's outputs."""
    reference: str
    """Its name in the reference."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Signs of how a recording was made."""

    half_precision: bool
    """True if all recorded float values, except those of inputs, are float16 numbers."""
    copies: tuple[tuple[int, int], ...]
    """Pairs of a tensor and a later one whose bytes it holds although no operator copies them."""


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """The counterparts of tensors, and the findings that need no run."""

    matching: Matching
    reasons: Mapping[int, str]
    """The reasons, by tensor, why it has no local error."""
    checks: Mapping[int, WeightCheck] = field(default_factory=dict)
    """The comparison of an operator's weights, by output tensor."""
    joint: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The operators that are checked together in a local error, by output tensor."""
    unrounded_before: frozenset[int] = frozenset()
    """Those of these tensors whose error is that of the last operator and of the float arithmetic
    of all, without the rounding of the operators before the last."""
    beyond: frozenset[int] = frozenset()
    """Outputs that the reference computes from more than their operators read."""
    trained: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """The trained range of the reference's fake-quant by tensor, real units."""
    idle: frozenset[int] = frozenset()
    """Tensors whose counterpart is also that of their operator's input, so that nothing is computed
    between the two."""
    operations: Mapping[int, str] = field(default_factory=dict)
    """The reference's operation that computes each tensor, if the reference has a graph."""
    ports: tuple[Port, ...] = ()
    """The outputs of the file that are outputs of the reference."""
    recording: Recording | None = None
    """The signs of how a recording was made; None for other references."""
    unrounded: frozenset[int] = frozenset()
    """Quantized tensors whose recorded values are between codes, so that float arithmetic computed
    them, perhaps from constants that were never rounded."""
    own: frozenset[int] = frozenset()
    """Tensors that are checked against the file's own float arithmetic, because the reference
    cannot judge them."""
    fed_alike: frozenset[int] = frozenset()
    """Outputs whose local error is over the samples in which both sides read the same values."""
    miscast: Mapping[int, str] = field(default_factory=dict)
    """The way in which recorded codes of inputs were made from the data, if not by rounding."""
