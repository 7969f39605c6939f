"""Measure an affine part of the reference for every channel by sending values through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.reference.evaluate import Evaluator, Frozen, Segment

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import Doubles, Floats

EPSILON = 2.0**-23
PROBE = 1024.0
"""Large compared with the offset of a batch norm, so that rounding hides little of the factor."""
_EVEN = 1e-6
"""The largest variation of an answer over an image, as a share of the largest value."""
_BENT = 16 * EPSILON
"""The rounding of an affine map in float32, as a share of the magnitudes that are added."""


def ask(
    frozen: Frozen,
    constants: Sequence[str],
    segments: Sequence[Segment],
    shapes: Mapping[int, tuple[int, ...]],
) -> tuple[list[Floats], list[Floats]]:
    """Return constants, and the answers of segments to zeros, `PROBE` and its negative.

    The values are sent one after the other, because a reference may accept only one sample.

    Args:
        frozen: The reference.
        constants: The tensors to fetch in addition.
        segments: The segments to send values through.
        shapes: The shape of one sample, by key of the segments' cuts.

    Returns:
        The constants, and for each segment (3, ...) its answers.

    Raises:
        KerasError: TensorFlow cannot compute them.
    """
    evaluator = Evaluator(frozen, constants, segments, once=True)
    known: list[Floats] = []
    made = []
    try:
        for value in (0.0, PROBE, -PROBE):
            sent = {k: np.full(s, value, np.float32) for k, s in shapes.items()}
            fetched, computed = evaluator.run(None, sent)
            known = known or fetched  # weights are large, and the same every time
            made.append(computed)
    finally:
        evaluator.close()
    return known, [np.stack(three) for three in zip(*made, strict=True)]


def affine(answer: Floats) -> tuple[Doubles, Doubles] | None:
    """Return the answers to zeros and to `PROBE`, (channels,) each.

    None if the segment is not an affine map per channel.
    """
    channels = answer.shape[-1]
    zeros, probed, negated = (a.reshape(-1, channels).astype(np.float64) for a in answer)
    if not all(np.isfinite(values).all() for values in (zeros, probed, negated)):
        return None
    if any(np.ptp(v, axis=0).max() > _EVEN * (1 + np.abs(v).max()) for v in (zeros, probed)):
        return None
    bent = np.abs(probed[0] + negated[0] - 2 * zeros[0])
    if (bent > _BENT * (np.abs(probed[0]) + np.abs(negated[0]) + 2 * np.abs(zeros[0]))).any():
        return None
    return zeros[0], probed[0]
