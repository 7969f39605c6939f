"""Find how a wrong constant was made from the reference's: negated, permuted, scaled, cut off.

Each hypothesis is tested on every value; rounding explains up to half a step.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.constants.checks import HALF_STEP, Doubles

_SHOWN = 4
_TRIED = 64
"""The number of values that a memory order must explain before all values are tested."""
_MOST_AXES = 5
"""The largest number of dimensions above size 1 whose orders are all tried: five have 120."""
_ONE = 1e-3
"""The least distance of a factor from 1."""


def weights_arrangement(found: Doubles, wanted: Doubles, step: Doubles, axis: int) -> str | None:
    """Return how the file's weights were made from the reference's; None if no hypothesis holds.

    Args:
        found: The file's weights, real units.
        wanted: The reference's weights, same shape.
        step: The size of a step, broadcastable to that shape.
        axis: The axis of the output channels.
    """
    limit = np.broadcast_to(HALF_STEP * step, wanted.shape)
    if not wanted.ndim or _near(found, wanted, limit):
        return None
    said = _arranged(found, wanted, limit, axis)
    if said is not None or np.size(step) == 1:
        return said
    # Codes may have been moved although the scale of each channel was not.
    steps = np.broadcast_to(step, wanted.shape)
    codes = (found / steps, wanted / steps, np.full(wanted.shape, HALF_STEP))
    said = _arranged(*codes, axis)
    return None if said is None else f"{said}, while the scales stayed"


def _arranged(found: Doubles, wanted: Doubles, limit: Doubles, axis: int) -> str | None:
    one, other = (1, 2) if found.ndim == 4 else (0, found.ndim - 1)
    square = one < other and found.shape[one] == found.shape[other]
    if square and _near(found, np.swapaxes(wanted, one, other), limit):
        return "height and width are exchanged" if found.ndim == 4 else "it is transposed"
    order = _memory_order(found, wanted, limit)
    if order is not None:
        return f"stored in the memory order of the transpose {order}"
    moved = _of_inputs(found, wanted, limit, axis)
    if moved is not None:
        return moved
    return _of_channels(
        *(np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (found, wanted, limit))
    )


def _of_inputs(found: Doubles, wanted: Doubles, limit: Doubles, axis: int) -> str | None:
    """Return how the weights meet other inputs: of another channel, row or column."""
    last = found.ndim - 1
    directions = {1: "height", 2: "width"} if found.ndim == 4 else {}
    for along, direction in directions.items():
        if _near(found, np.flip(wanted, along), np.maximum(limit, np.flip(limit, along))):
            return f"mirrored along its {direction}"
    if found.ndim not in (2, 4) or axis == last:
        return None
    if _near(found, np.flip(wanted, last), np.maximum(limit, np.flip(limit, last))):
        return "the input channels are in reverse order, as RGB and BGR are"
    if found.ndim == 2 and _flattened(found, wanted, limit):
        return "the inputs are in another order, as of a Flatten that takes channels first"
    inputs = (np.moveaxis(a, last, 0).reshape(a.shape[last], -1) for a in (found, wanted, limit))
    return "the inputs are in another order" if _permuted(*inputs) else None


def _flattened(found: Doubles, wanted: Doubles, limit: Doubles) -> bool:
    """Return whether the inputs of each output are those of a matrix with exchanged axes.

    With hundreds of inputs and few outputs, sums over the outputs do not distinguish inputs.
    """
    outputs, inputs = found.shape

    def turned(values: Doubles, rows: int) -> Doubles:
        return values.reshape(outputs, rows, -1).swapaxes(1, 2).reshape(outputs, inputs)

    return any(
        _near(found, turned(wanted, rows), np.maximum(limit, turned(limit, rows)))
        for rows in range(2, inputs // 2 + 1)
        if inputs % rows == 0
    )


def _memory_order(found: Doubles, wanted: Doubles, limit: Doubles) -> tuple[int, ...] | None:
    """Return the axes of the transpose whose bytes were stored with the original shape."""
    axes = [i for i, size in enumerate(wanted.shape) if size > 1]
    if not 2 <= len(axes) <= _MOST_AXES:
        return None
    flat, own = found.reshape(-1), limit.reshape(-1)
    for moved in permutations(axes):
        order = list(range(wanted.ndim))
        for place, axis in zip(axes, moved, strict=True):
            order[place] = axis
        other, tolerance = wanted.transpose(order), limit.transpose(order)
        some = slice(0, _TRIED)
        head = (flat[some], other.flat[some], np.maximum(own[some], tolerance.flat[some]))
        if list(moved) != axes and _near(*head):
            whole = (flat, other.reshape(-1), np.maximum(own, tolerance.reshape(-1)))
            if _near(*whole):
                return tuple(order)
    return None


def bias_arrangement(found: Doubles, wanted: Doubles, limit: Doubles) -> str | None:
    """Return how the file's bias (channels,) was made from the reference's.

    Args:
        found: The file's bias, real units.
        wanted: The reference's bias, real units.
        limit: The difference that rounding explains, real units.
    """
    if not found.any() and found.size > 1 and not _near(found, wanted, limit):
        return "it is missing"
    arranged = _of_channels(*(a.reshape(-1, 1) for a in (found, wanted, limit)))
    return arranged or _shifted(found, wanted, limit)


def _shifted(found: Doubles, wanted: Doubles, limit: Doubles) -> str | None:
    """Return the shift of several channels that differ by the same value."""
    off = found - wanted
    wrong: NDArray[np.bool_] = np.abs(off) > limit
    # Bias and shift were both rounded, so that two channels may differ by two steps.
    if np.count_nonzero(wrong) < 2 or np.ptp(off[wrong]) > 4 * limit[wrong].max():
        return None
    return f"{_channels(wrong)} {_verb(wrong, f'shifted by {off[wrong].mean():.3g}')}"


def _of_channels(found: Doubles, wanted: Doubles, limit: Doubles) -> str | None:
    """Test the hypotheses on whole channels: (channels, values) each."""
    wrong: NDArray[np.bool_] = np.any(np.abs(found - wanted) > limit, axis=1)
    if not wrong.any():
        return None
    f, w, tolerance = found[wrong], wanted[wrong], limit[wrong]
    where = _channels(wrong)
    if not f.any():
        return f"{where} {_verb(wrong, 'zero')}"
    if _near(f, -w, tolerance):
        return f"{where} {_verb(wrong, 'negated')}"
    if _permuted(found, wanted, limit):
        return "the channels are in another order"
    # The factor comes from rounded values: times a large weight its error may be half a step.
    factor = float((f * w).sum() / max(float((w * w).sum()), 1e-300))
    scaled = abs(factor - 1) > _ONE and factor and not _near(f, w, 2 * tolerance)
    if scaled and f.size > 1 and _near(f, factor * w, 2 * tolerance):
        return f"{where} {_verb(wrong, f'multiplied by {factor:.3g}')}"
    largest = float(np.abs(found).max())
    cut = np.clip(w, -largest, largest)
    if f.size > 1 and largest < np.abs(wanted).max() and _near(f, cut, tolerance):
        return f"values beyond {largest:.3g} are cut off"
    return None


def _near(one: Doubles, other: Doubles, limit: Doubles) -> bool:
    return bool((np.abs(one - other) <= limit).all())


def _permuted(found: Doubles, wanted: Doubles, limit: Doubles) -> bool:
    """Return whether the channels are a permutation of the reference's.

    Weighted sums of the same values are equal in any place.  Channels of the same rank in the order
    of their sums are then compared value by value.
    """
    weight = np.cos(np.arange(found.shape[1]))
    places = [np.argsort(side @ weight, kind="stable") for side in (found, wanted)]
    tolerance = np.maximum(limit[places[0]], limit[places[1]])
    return len(found) > 1 and _near(found[places[0]], wanted[places[1]], tolerance)


def _channels(wrong: NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(wrong)
    if numbers.size == wrong.size:
        return "all channels"
    shown = ", ".join(str(n) for n in numbers[:_SHOWN])
    dots = ", ..." if numbers.size > _SHOWN else ""
    return f"channel {shown}" if numbers.size == 1 else f"channels {shown}{dots}"


def _verb(wrong: NDArray[np.bool_], word: str) -> str:
    return f"{'is' if np.count_nonzero(wrong) == 1 and wrong.size > 1 else 'are'} {word}"
