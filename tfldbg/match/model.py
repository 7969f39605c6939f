"""The results of the matcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Match:
    """One TFLite tensor and the reference node that computes the same value."""

    tensor: int
    node: str
    """The reference tensor of the value: the fake-quant node with the tensor's parameters, or else
    the same as ``raw``."""
    raw: str
    """The value before it is fake-quantized."""
    group: tuple[str, ...]
    """The nodes from the one that was found first to ``raw``, folded into one operator."""
    chain: tuple[str, ...]
    """The nodes that the tensor's value may replace when the operators that read it are checked."""
    rule: str
    """The rule that made the match."""
    confidence: float
    """1 for names and carried matches, less if structure or values decided."""
    parameters: str
    """``equal``, ``differ``, ``none`` (the reference does not quantize here), ``bypassed`` (an
    operator after it that keeps its input's scale requires its own), ``deferred`` (it must keep
    its input's scale, and a QUANTIZE after it applies the fake-quant's) or ``computed`` (from
    data, not binding)."""
    expected: tuple[float, int] | None = None
    """The scale and zero point of the reference's fake-quant, or those computed from data, if
    any."""

    @property
    def names(self) -> tuple[str, ...]:
        """The reference tensors that hold the tensor's value, nearest first."""
        return (self.node, self.raw, *self.chain)


def port_match(tensor: int, name: str, rule: str, confidence: float) -> Match:
    """Return the match with one of several outputs of a node, into which nothing is folded."""
    return Match(tensor, name, name, (name,), (name,), rule, confidence, "none")


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A TFLite tensor without a counterpart, and the reason."""

    tensor: int
    reason: str
    certain: bool = False
    """True if its values or its operator prove that it has no counterpart, so that agreement of its
    consumers with the reference is not needed as evidence."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The outcome for every activation of a subgraph."""

    matches: Mapping[int, Match]
    unmatched: Mapping[int, Unmatched]
    inputs: tuple[int, ...]
    """The number of the reference input for each input of the subgraph."""
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The shape of the reference's value for each operator output whose shape differs although the
    inputs have the same shapes."""
