"""How a quantizer may round weights other than to the nearest of evenly spread codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

Doubles = NDArray[np.float64]
HALF_STEP = 0.51
"""Half a step, and room for float32 rounding where a batch norm is folded into up to 127 steps."""
_ENOUGH = 32
"""Values below which codes may be neighbours of the right ones by chance: of two 4-bit codes drawn
evenly a fifth are, of 32 none is."""


def within_range(
    tensor: Tensor, found: NDArray[np.float32], wanted: Doubles, steps: Doubles
) -> tuple[Doubles, int]:
    """Cut the reference's weights off where a smaller scale is worth it.

    A scale below largest value / largest code loses the largest values and makes all steps smaller
    (OCTAV, MSE calibration).  That is a choice as long as the whole constant is off by less than
    with the scale that holds every value; a scale that is simply too small is off by more.

    Args:
        tensor: The file's constant.
        found: Its values, real units, symmetric around 0.
        wanted: The reference's, the same shape.
        steps: The step of each value.

    Returns:
        What to compare with, and how many values were cut off.
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
    """Return what rounding costs with scales that hold every value: one for each of the file's."""
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
    """Whether no value is further than the code next to the nearest one.

    Args:
        steps: By how many steps each value is off.
    """
    return steps.size >= _ENOUGH and bool((steps <= 1 + HALF_STEP).all())
