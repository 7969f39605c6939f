"""The error of the tables of LiteRT's int16 kernels, which interpolate linearly between entries.

There is an entry every 128 codes, 513 in all.  Each is moved by half of the interpolation error in
the middle of the interval after it (LiteRT, ``kernels/internal/common.h``: ``LUTPopulateInt16``,
``LUTLookup``).  If a function bends within 128 codes, as RSQRT and LOG do near zero, the error is
many steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

Doubles = NDArray[np.float64]
_STEPS = 512
_BETWEEN = 128
_LOW, _HIGH = code_range("INT16")
_INTERVAL = (_HIGH - _LOW) / _STEPS
_LARGER = (_HIGH - _LOW + 1) / (_HIGH - _LOW)
_FUNCTIONS: Mapping[str, Callable[[Doubles], Doubles]] = {
    "EXP": np.exp,
    "GELU": lambda x: x * np.vectorize(math.erfc, [float])(-x / math.sqrt(2.0)) / 2,
    "LOG": np.log,
    "RSQRT": lambda x: 1 / np.sqrt(x),
}
"""Functions that kernels look up in such a table; GELU's approximation bends at the same places."""
_AT_ZERO: Mapping[str, float] = {"LOG": -np.inf, "RSQRT": np.inf}
"""The value of a function at zero and below, where the kernels write the last code."""


def table_error(kind: str, given: Tensor, out: Tensor, codes: tuple[int, int]) -> float:
    """Return the largest error of a table, LSB of the output.

    Values beyond the range count as clipped.

    Args:
        kind: The kind of the operator.
        given: Its input.
        out: Its output.
        codes: The lowest and the highest code of the input.

    Returns:
        0 for operators without such a table, and if no code has a value.
    """
    fit = given.type == out.type == "INT16" and kind in _FUNCTIONS
    if not fit or given.lsb is None or out.lsb is None:
        return 0.0
    return _error(kind, given.lsb, out.lsb, codes)


@lru_cache(maxsize=256)  # each matching that is tried computes all bounds again
def _error(kind: str, given: float, out: float, codes: tuple[int, int]) -> float:
    lowest = max(codes[0], 1 if kind in _AT_ZERO else _LOW)
    seen = np.arange(lowest, min(codes[1], _HIGH) + 1)
    if not seen.size:
        return 0.0
    in_steps = _InSteps(kind, _FUNCTIONS[kind], given, out)
    exact = np.clip(in_steps(seen.astype(np.float64)), _LOW, _HIGH)
    entries = _entries(in_steps)
    first, behind = np.divmod(seen - _LOW, _BETWEEN)
    share = behind / _BETWEEN
    found = entries[first] + share * (entries[first + 1] - entries[first])
    return float(np.abs(found - exact).max())


class _InSteps:
    """A function from input codes to steps of the output, neither rounded nor clipped.

    Args:
        kind: The kind of the operator.
        function: The function from real values to real values.
        given: The scale of the input.
        out: The scale of the output.
    """

    def __init__(
        self, kind: str, function: Callable[[Doubles], Doubles], given: float, out: float
    ) -> None:
        self._at_zero = _AT_ZERO.get(kind)
        self._function, self._given, self._out = function, given, out

    def __call__(self, codes: Doubles) -> Doubles:
        real = codes * self._given
        with np.errstate(all="ignore"):
            values = self._function(real)
        if self._at_zero is None:
            return np.asarray(values / self._out)
        last = _HIGH if self._at_zero > 0 else _LOW
        return np.asarray(np.where(real > 0, values / self._out, last))


def _entries(in_steps: _InSteps) -> Doubles:
    """Return the 513 entries of the table.

    They are computed for 512 intervals between the lowest and the highest code, 127.998 codes each,
    and for outputs that are larger by 65536 / 65535; the lookup takes them as 128 codes apart.
    """
    starts = np.arange(_STEPS + 1, dtype=np.float64) * _INTERVAL + _LOW
    values: Doubles = _LARGER * in_steps(starts)
    middles = np.round(_LARGER * in_steps(starts[:-1] + _INTERVAL / 2))
    between = (values[1:] + np.round(values[:-1])) / 2
    off = np.round(between) - middles
    moved = np.append(np.round(values[:-1]) - np.round(off / 2), np.round(values[-1]))
    return np.asarray(np.clip(moved, _LOW, _HIGH), np.float64)
