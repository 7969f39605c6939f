"""Ways in which a quantizer may round weights other than to the nearest evenly spaced code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

Doubles = NDArray[np.float64]
HALF_STEP = 0.51
"""Half a step, and a margin for float32 rounding if a batch norm is folded into 127 steps."""
_ENOUGH = 32
"""The number of values below which codes may be neighbours of the right ones by chance: a fifth of
pairs of random 4-bit codes are, but no 32 of them."""


def within_range(
    tensor: Tensor, found: NDArray[np.float32], wanted: Doubles, steps: Doubles
) -> tuple[Doubles, int]:
    """Cut off the reference's weights if the file's smaller scale is an advantage.

    A scale below largest value / largest code loses the largest values and makes all steps smaller
    (OCTAV, MSE calibration).  It counts as a choice if the whole constant has a smaller error than
    with the scale that holds every value; a scale that is merely too small has a larger one.

    Args:
        tensor: The file's constant.
        found: The file's values, real units, symmetric around 0.
        wanted: The reference's values, same shape.
        steps: The step of each value.

    Returns:
        The values to compare with, and the number of values that were cut off.
    """
    params = tensor.quant
    symmetric = params is not None and not np.any(params.zero_point)
    if not symmetric or "INT" not in tensor.type or not np.all(steps):
        return wanted, 0
    if found.shape != wanted.shape:
        return wanted, 0
    low, high = code_range(tensor.type)
    lowest = low if (np.round(found / steps) == low).any() else low + 1
    cut = np.clip(wanted, lowest * steps, high * steps)
    beyond = np.abs(wanted - cut) > (HALF_STEP - 0.5) * steps
    if not beyond.any() or _energy(found - wanted) > _energy(_evenly(wanted, steps, high)):
        return wanted, 0
    return cut, int(np.count_nonzero(beyond))


def _evenly(wanted: Doubles, steps: Doubles, high: int) -> Doubles:
    """Return the rounding error with scales that hold every value, one for each of the file's."""
    _, groups = np.unique(steps, return_inverse=True)
    largest = np.zeros(int(groups.max()) + 1)
    np.maximum.at(largest, groups.reshape(-1), np.abs(wanted).reshape(-1).astype(np.float64))
    wide = (largest / high)[groups.reshape(-1)].reshape(wanted.shape)
    wide = np.where(wide > 0, wide, 1.0)
    rounded: Doubles = np.round(wanted / wide) * wide - wanted
    return rounded


def _energy(values: NDArray[np.floating]) -> float:
    return float(np.square(values.astype(np.float64)).sum())


def is_neighbour(steps: Doubles) -> bool:
    """Return whether every value is at most one code from the nearest one.

    Args:
        steps: The difference of each value in steps.
    """
    return steps.size >= _ENOUGH and bool((steps <= 1 + HALF_STEP).all())
