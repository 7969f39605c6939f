"""What the matcher finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Match:
    """One TFLite tensor and the reference node that computes the same value."""

    tensor: int
    node: str
    """The value the tensor stands for: the fake-quant node with the tensor's own parameters where
    there is one, else the same as ``raw``."""
    raw: str
    """The value before it is fake-quantized."""
    group: tuple[str, ...]
    """From the node that was found first to ``raw``: what was folded into one operator."""
    chain: tuple[str, ...]
    """Every node that may be replaced by the tensor's value when a reader of it is looked at."""
    rule: str
    """Which rule made the match."""
    confidence: float
    """1 for names and carried matches, less where the structure or the numbers decided."""
    parameters: str
    """``equal``, ``differ``, ``none`` (the reference quantizes nothing here), ``bypassed`` (an
    operator behind it that keeps its input's scale imposes its own), ``deferred`` (it must keep
    its input's scale, and a QUANTIZE behind it applies the fake-quant's) or ``computed`` (from
    data, which binds nobody)."""
    expected: tuple[float, int] | None = None
    """Scale and zero point of the reference's fake-quant, where there is one, or computed from
    data."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every reference tensor that holds the tensor's value, the nearest first."""
        return (self.node, self.raw, *self.chain)


def port_match(tensor: int, name: str, rule: str, confidence: float) -> Match:
    """Return the match with an output of a node that has several, which nothing is folded into."""
    return Match(tensor, name, name, (name,), (name,), rule, confidence, "none")


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A TFLite tensor without a counterpart, and why."""

    tensor: int
    reason: str
    certain: bool = False
    """Whether its own values, or what its operator computes, say that it has none: that those that
    read it agree with the reference then need not."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The outcome for every activation of a subgraph."""

    matches: Mapping[int, Match]
    unmatched: Mapping[int, Unmatched]
    inputs: tuple[int, ...]
    """For each input of the subgraph, the number of the reference input that feeds it."""
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Shape of the reference's value where an operator has inputs of the same shapes as there and
    an output of another."""
