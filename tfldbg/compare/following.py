"""Which ranges a file's parameters follow, hence how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tfldbg.compare.calibrate import FAKE_QUANT_PASS, FLOAT_PASS
from tfldbg.graph.model import Tensor
from tfldbg.match.settle import same_parameters

TRAINED = "trained ranges"
CLOSE = 0.02
"""Scales that are meant to be the same though the weights are rounded.

A rounded weight is off by ``max / 127 / sqrt(12)`` in the root mean square, 0.23 % of the largest.
Weights are some 3.5 times smaller than their largest, so a sum of them is off by 0.8 % of its
standard deviation, which is 0.23 % of its extremes, 3.5 deviations away.  Layers add up like a
random walk: 2 % after seventy of them.
"""
_CLEARLY = 2.0
"""How many times closer one candidate must be before the other is ruled out."""
_ROUNDING = math.log2(1 + 1e-5)
"""Below that two scales are the same, float32 arithmetic aside."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How close a file's parameters are to those of one candidate."""

    source: str
    """`TRAINED` or one of `tfldbg.compare.calibrate.PASSES`."""
    compared: int
    """Tensors, those that share their parameters counted once."""
    equal: int
    """Of these, how many have the same scale (1e-5) and zero point."""
    close: int
    """How many have a scale within `CLOSE`."""
    zero_points: int
    """How many have the same zero point."""
    median: float
    """Median of ``|log2(file's scale / candidate's)|``."""
    largest: float
    """Largest of the same."""
    farthest: int
    """The tensor where that is."""

    @property
    def share(self) -> float:
        """The median as a share of the scale: 0.01 is 1 %."""
        return as_share(self.median)


def as_share(octaves: float) -> float:
    """Return how far apart two scales are, as a share, from the base 2 logarithm of their ratio."""
    return float(2.0**octaves - 1.0)


def liken(
    source: str, tensors: Sequence[Tensor], candidate: Mapping[int, tuple[float, int]]
) -> Likeness | None:
    """Compare the parameters of tensors with those of a candidate, None where there are none.

    Args:
        source: What the candidate is.
        tensors: One of each group that shares its parameters.
        candidate: By tensor scale and zero point.
    """
    compared = [t for t in tensors if t.index in candidate and t.lsb is not None]
    if not compared:
        return None
    octaves = [abs(math.log2((t.lsb or 1.0) / candidate[t.index][0])) for t in compared]
    largest = max(octaves)
    return Likeness(
        source=source,
        compared=len(compared),
        equal=sum(same_parameters(t, candidate[t.index]) for t in compared),
        close=sum(as_share(o) <= CLOSE for o in octaves),
        zero_points=sum(t.zero_point == candidate[t.index][1] for t in compared),
        median=median(octaves),
        largest=largest,
        farthest=compared[octaves.index(largest)].index,
    )


@dataclass(frozen=True, slots=True)
class Following:
    """What a file's parameters follow."""

    source: str | None
    """`TRAINED`, one of the passes, or None where it cannot be told."""
    sentence: str


def follow(likenesses: Sequence[Likeness]) -> Following:
    """Say which candidate the parameters follow.

    Trained ranges are followed if most are equal: nothing else yields the same figures by chance.
    Data is followed if most scales are close to what a pass over it yields; which pass it was can
    be told only where one is clearly closer.
    """
    ordered = sorted(likenesses, key=lambda x: x.median)
    if not ordered:
        return Following(None, "no parameters depend on data")
    trained = next((x for x in ordered if x.source == TRAINED), None)
    if trained is not None and 2 * trained.equal > trained.compared:
        said = f"the parameters follow the trained ranges of the Keras model ({_equal(trained)})"
        return Following(TRAINED, said + _others(ordered, trained))
    passes = [x for x in ordered if x.source != TRAINED]
    best = passes[0] if passes else ordered[0]
    if best.source == TRAINED or 2 * best.close <= best.compared:
        said = (
            f"the parameters follow none of these ranges: the closest, of {_NAMES[best.source]}, "
            f"are {_percent(best.share)} away in the median; they come from other data, or from "
            "observers that do not keep all values"
        )
        return Following(None, said)
    if len(passes) > 1 and passes[1].median <= _CLEARLY * max(best.median, _ROUNDING):
        said = (
            f"the parameters follow this data ({_close(best)}), but whether they come from a float "
            "pass (post-training quantization) or a fake-quantized pass (QAT observers) cannot be "
            f"told: medians {' and '.join(_percent(x.share) for x in passes)}"
        )
        return Following(None, said)
    said = f"the parameters follow {_NAMES[best.source]}: {_MADE[best.source]} ({_close(best)})"
    return Following(best.source, said + _others(passes, best))


_NAMES = {
    TRAINED: "the trained ranges",
    FLOAT_PASS: "a float pass over this data",
    FAKE_QUANT_PASS: "a fake-quantized pass over this data",
}
_MADE = {
    FLOAT_PASS: "post-training quantization",
    FAKE_QUANT_PASS: "QAT whose observers keep all values",
}


def _others(ordered: Sequence[Likeness], chosen: Likeness) -> str:
    others = [x for x in ordered if x is not chosen]
    said = ", ".join(f"{_NAMES[x.source]} {_percent(x.share)}" for x in others)
    return f"; further away in the median: {said}" if said else ""


def proximity(found: Likeness, farthest: str) -> str:
    """Say how close a candidate is: ``3 of 6 equal, 5 zero points; scales 0.1 % away ...``.

    Args:
        found: The candidate.
        farthest: The name of the tensor that is farthest away.
    """
    if found.equal == found.compared:
        return _equal(found)
    points = f"{found.zero_points} of {found.compared} zero points equal"
    apart = f"scales {_percent(found.share)} apart in the median"
    return f"{points}, {apart}, at most {_percent(as_share(found.largest))} at '{farthest}'"


def _equal(found: Likeness) -> str:
    return f"{found.equal} of {found.compared} equal"


def _close(found: Likeness) -> str:
    if found.equal == found.compared:
        return _equal(found)
    return (
        f"{found.close} of {found.compared} scales within {CLOSE:.0%}, "
        f"median {_percent(found.share)}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
