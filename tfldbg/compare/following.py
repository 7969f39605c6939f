"""Which ranges a file's parameters follow, hence how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tfldbg.compare.calibrate import FAKE_QUANT_PASS, FLOAT_PASS
from tfldbg.graph.model import Tensor
from tfldbg.match.settle import same_parameters

TRAINED, KERAS_PASS = "trained ranges", "float pass of the Keras model"
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
    """`TRAINED`, `KERAS_PASS` or one of `tfldbg.compare.calibrate.PASSES`."""
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
    """`TRAINED`, `KERAS_PASS`, one of the passes, or None where it cannot be told."""
    sentence: str


def follow(likenesses: Sequence[Likeness]) -> Following:
    """Say which candidate the parameters follow.

    Trained ranges are followed if most are equal: nothing else yields the same figures by chance.
    Data is followed if most scales are close to what a pass over it yields; which pass it was can
    be told only where one is clearly closer.
    """
    passes = sorted((x for x in likenesses if x.source != TRAINED), key=lambda x: x.median)
    trained = next((x for x in likenesses if x.source == TRAINED), None)
    if trained is not None and 2 * trained.equal > trained.compared:
        said = f"the parameters follow the trained ranges of the Keras model ({_equal(trained)})"
        return Following(TRAINED, said + _others(passes))
    if not passes:
        return Following(None, "no parameters depend on data")
    best, others = passes[0], passes[1:]
    if 2 * best.close <= best.compared:
        said = "the parameters follow none of these ranges: they come from other data, or from "
        said += "observers that do not keep all values"
        return Following(None, said + _apart(likenesses))
    if any(x.median <= _CLEARLY * max(best.median, _ROUNDING) for x in others):
        said = f"the parameters follow this data ({_close(best)}), but a float and a "
        said += "fake-quantized pass are too much alike to tell which it was" + _apart(passes)
        if KERAS_PASS not in {x.source for x in passes} and best.equal < best.compared:
            said += "; --keras FLOAT.h5 runs the float pass with weights that are not rounded"
        return Following(None, said)
    said = f"the parameters follow a {best.source} over this data ({_close(best)}), as "
    return Following(best.source, said + _MADE[best.source] + _others(others))


_MADE = {
    FLOAT_PASS: "post-training quantization does",
    KERAS_PASS: "post-training quantization does",
    FAKE_QUANT_PASS: "QAT does whose observers keep all values",
}


def _others(others: Sequence[Likeness]) -> str:
    said = ", ".join(f"a {x.source} (median {_percent(x.share)})" for x in others)
    return f"; further away: {said}" if said else ""


def _apart(found: Sequence[Likeness]) -> str:
    said = ", ".join(f"{x.source} {_percent(x.share)}" for x in found)
    return f"; median distance of the scales: {said}"


def proximity(found: Likeness, farthest: str) -> str:
    """Say how close a candidate is.

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
    within = f"{found.close} of {found.compared} scales within {CLOSE:.0%}"
    return f"{within}, median {_percent(found.share)}"


def _percent(share: float) -> str:
    return "0 %" if share < 1e-5 else f"{100 * share:.2g} %"
