"""Which ranges a file's parameters follow, hence how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tfldbg.compare.ranges.calibrate import FAKE_QUANT_PASS, FLOAT_PASS
from tfldbg.match.settle import same_parameters

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

TRAINED, KERAS_PASS = "trained ranges", "float pass of the Keras model"
CLOSE = 0.02
"""Scales that are meant to be the same though the weights are rounded.

A rounded weight is off by ``max / 127 / sqrt(12)`` in the root mean square, 0.23 % of the largest.
Weights are some 3.5 times smaller than their largest, so a sum of them is off by 0.8 % of its
standard deviation, which is 0.23 % of its extremes, 3.5 deviations away.  Layers add up like a
random walk: 2 % after seventy of them.
"""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How close a file's parameters are to those of one candidate."""

    source: str
    """`TRAINED`, `KERAS_PASS` or one of `tfldbg.compare.ranges.calibrate.PASSES`."""
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

    A candidate is followed if it yields most parameters exactly, and more of them than any other.
    Nothing weaker tells a float pass from a fake-quantized one: the weights' rounding moves the
    float pass of a file's copy as far as the activations' rounding moves the fake-quantized pass.
    Exactly is what must be expected: of trained ranges, of a float pass of the float model, and of
    a fake-quantized pass, whose rounded weights are the file's.
    """
    if not likenesses:
        return Following(None, "no parameters depend on data")
    best = max(likenesses, key=lambda x: x.equal)  # the trained ranges come first
    others = [x for x in likenesses if x is not best]
    alone = best.source == TRAINED or all(x.equal < best.equal for x in others)
    if 2 * best.equal > best.compared and alone:
        said = f"the parameters follow {_WHAT[best.source]} ({_equal(best)}){_MADE[best.source]}"
        return Following(best.source, said + "".join(map(_yields, others)))
    passes = sorted((x for x in likenesses if x.source != TRAINED), key=lambda x: x.median)
    if not passes or 2 * passes[0].close <= passes[0].compared:
        said = "the parameters follow none of these ranges: they come from other data, or from "
        said += "observers that do not keep all values"
        return Following(None, said + _apart(likenesses))
    said = f"the parameters follow this data ({_close(passes[0])}), but "
    if 2 * best.equal > best.compared:
        said += "both passes yield them, so it cannot be told which it was"
        return Following(None, said)
    said += "no pass yields them exactly, so it cannot be told which it was" + _apart(passes)
    if all(x.source != KERAS_PASS for x in passes):
        said += "; --keras FLOAT.h5 runs the float pass with weights that are not rounded"
    return Following(None, said)


_WHAT = {
    TRAINED: "the trained ranges of the Keras model",
    KERAS_PASS: "a float pass of the Keras model over this data",
    FLOAT_PASS: "a float pass over this data",
    FAKE_QUANT_PASS: "a fake-quantized pass over this data",
}
_MADE = {
    TRAINED: "",
    KERAS_PASS: ": post-training quantization",
    FLOAT_PASS: ": post-training quantization",
    FAKE_QUANT_PASS: ": QAT whose observers keep all values",
}


def _yields(other: Likeness) -> str:
    said = f"{other.equal} of {other.compared}, median {_percent(other.share)} away"
    return f"; {_WHAT[other.source]} yields {said}"


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
    if share < 1e-5:  # float32 arithmetic
        return "0%"
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%"
