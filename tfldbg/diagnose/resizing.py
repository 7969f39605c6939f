"""The error of the int16 kernel of RESIZE_BILINEAR, which computes in 1024ths of a pixel.

(LiteRT, ``reference/resize_bilinear.h``: ``ResizeBilinearInteger``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph

_PARTS = 1024


def resize_error(subgraph: Subgraph, op: Operator, largest: float) -> float:
    """Return the largest error of RESIZE_BILINEAR, LSB of its output.

    A position that is wrong by a share of a pixel changes the value by that share of the difference
    between two neighbours.

    Args:
        subgraph: The subgraph of the operator.
        op: The operator.
        largest: The largest magnitude of its input, real units.
    """
    given, out = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
    if out.lsb is None or len(given.shape) != 4 or len(out.shape) != 4:
        return 0.0
    align = bool(op.options.get("alignCorners"))
    half = bool(op.options.get("halfPixelCenters"))
    sizes = zip(given.shape[1:3], out.shape[1:3], strict=True)
    off = sum(_misplaced(read, made, align=align, half=half) for read, made in sizes)
    return off * 2.0 * largest / out.lsb


def _misplaced(read: int, made: int, *, align: bool, half: bool) -> float:
    """Return the largest error of the kernel's positions along one axis, pixels."""
    less = 1 if align and made > 1 else 0
    above, below = read - less, made - less
    parts = (_PARTS * above + below // 2) // below
    places = np.arange(made)
    kernel = places * parts + (parts // 2 - _PARTS // 2 if half else 0)
    exact = (places + 0.5) * above / below - 0.5 if half else places * above / below
    ends = (0.0, read - 1.0)
    return float(np.abs(np.clip(kernel / _PARTS, *ends) - np.clip(exact, *ends)).max(initial=0.0))
