"""Find the ranges that a file's parameters follow, and so how the file was made."""

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
"""The largest relative difference of scales that are meant to be equal, with rounded weights.

A rounded weight has an error of ``max / 127 / sqrt(12)`` in the root mean square, 0.23 % of the
largest.  Weights are about 3.5 times smaller than their largest, so a sum of them has an error of
0.8 % of its standard deviation, which is 0.23 % of its extremes, 3.5 deviations away.  The errors
of layers add up like a random walk: 2 % after seventy layers.
"""


@dataclass(frozen=True, slots=True)
class Likeness:
    """The similarity of a file's parameters to those of one candidate."""

    source: str
    """The candidate: `TRAINED`, `KERAS_PASS` or one of `tfldbg.compare.ranges.calibrate.PASSES`."""
    compared: int
    """The number of tensors, where tensors that share parameters count once."""
    equal: int
    """The number of tensors with the same scale (1e-5) and zero point."""
    close: int
    """The number of tensors with a scale within `CLOSE`."""
    zero_points: int
    """The number of tensors with the same zero point."""
    median: float
    """The median of ``|log2(file's scale / candidate's)|``."""
    largest: float
    """The largest of these values."""
    farthest: int
    """The tensor with the largest of these values."""

    @property
    def share(self) -> float:
        """The median as a share of the scale: 0.01 is 1 %."""
        return as_share(self.median)


def as_share(octaves: float) -> float:
    """Return the relative difference of two scales from the base 2 logarithm of their ratio."""
    return float(2.0**octaves - 1.0)


def liken(
    source: str, tensors: Sequence[Tensor], candidate: Mapping[int, tuple[float, int]]
) -> Likeness | None:
    """Compare the parameters of tensors with those of a candidate; None if there are none.

    Args:
        source: The name of the candidate.
        tensors: One tensor of each group that shares parameters.
        candidate: The scale and zero point of each tensor.
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
    """The candidate that a file's parameters follow."""

    source: str | None
    """`TRAINED`, `KERAS_PASS`, one of the passes, or None if it is unknown."""
    sentence: str


def follow(likenesses: Sequence[Likeness]) -> Following:
    """Return the candidate that the parameters follow.

    A candidate is followed if it gives most parameters exactly, and more of them than any other.
    Weaker evidence does not distinguish a float pass from a fake-quantized one: rounded weights
    change the float pass of a file's copy as much as rounded activations change the fake-quantized
    pass.  Exact parameters are expected of trained ranges, of a float pass of the float model, and
    of a fake-quantized pass, whose rounded weights are the file's.
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
        said += "both passes give them, so it is unknown which one was used"
        return Following(None, said)
    said += "no pass gives them exactly, so it is unknown which one was used" + _apart(passes)
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
    return f"; {_WHAT[other.source]} gives {said}"


def _apart(found: Sequence[Likeness]) -> str:
    said = ", ".join(f"{x.source} {_percent(x.share)}" for x in found)
    return f"; median distance of the scales: {said}"


def proximity(found: Likeness, farthest: str) -> str:
    """Return how close a candidate is, in words.

    Args:
        found: The candidate.
        farthest: The name of the tensor with the largest difference.
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
