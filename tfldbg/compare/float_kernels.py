"""The kernels that compute float copies: XNNPACK, where it computes what the other kernels do.

Float copies are the reference of a quantized file, so a fault of the kernels that compute them must
not go unnoticed.  XNNPACK is several times as fast as LiteRT's own kernels.  It computes an
operator if the first sample shows the same values under both, and if the traced file does not
compute the operator in float itself: then XNNPACK would be compared with XNNPACK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.alike import differing
from tfldbg.compare.copies import LocalPart, Shadow, shadow
from tfldbg.options.runtimes import Kernels
from tfldbg.run.derived import FLOAT_KERNELS

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.rewrite.twin import Computation
    from tfldbg.run.job import Loaded

XNNPACK = Kernels("xnnpack")
_AGREES = 1e-5
"""The share of the largest value up to which kernels agree that add in another order.  The 40
quantized files of the corpus differ by 2e-6 at most where sums do not cancel."""
_NOTHING_LSB = 1e-3
"""The difference that does not matter, LSB, where sums do cancel."""


def float_shadow(loaded: Loaded, steps: Sequence[Computation], first: Batch) -> Shadow:
    """Build float copies of single operators, without those that the runtime refuses.

    Args:
        loaded: The reference file.
        steps: The operators to compute.
        first: Some samples of the traced file.
    """
    built = shadow(loaded, steps, first)
    if not built.parts:
        return built
    (whole,) = built.parts
    known = [s for s in steps if s.op.index not in built.refused]
    candidates = [s for s in known if _is_quantized(loaded, s)]
    if not candidates:
        return built
    fast = shadow(loaded, candidates, first, kernels=XNNPACK)
    if not fast.parts:
        return built
    expected, found = _values(whole, first), _values(fast.parts[0], first)
    tensors = loaded.subgraph.tensors
    differ = {
        s.op.index
        for s in candidates
        if not all(
            i in found
            and not differing(
                found[i], expected[i], _AGREES, _NOTHING_LSB * (tensors[own].lsb or 0.0)
            )
            for own, i in s.results.items()
        )
    }
    if differ:
        candidates = [s for s in candidates if s.op.index not in differ]
        fast = shadow(loaded, candidates, first, kernels=XNNPACK)
    moved = {s.op.index for s in candidates}
    rest = shadow(loaded, [s for s in known if s.op.index not in moved], first)
    apart = tuple(sorted(differ - fast.refused.keys()))
    return Shadow((*fast.parts, *rest.parts), built.refused, apart)


def _is_quantized(loaded: Loaded, step: Computation) -> bool:
    """Return whether an operator writes codes in its own file."""
    tensors = loaded.subgraph.tensors
    return all(tensors[i].lsb is not None for i in step.results)


def _values(part: LocalPart, first: Batch) -> Mapping[int, NDArray[Any]]:
    """Return the results of the first sample by tensor."""
    runner = part.start()
    try:
        made = runner.run(*first.given, 1)
        return {i: np.array(v) for i, v in zip(part.model.results, made, strict=True)}
    finally:
        runner.close()


def computed_apart(built: Shadow) -> tuple[str, ...]:
    """Return a note on operators that XNNPACK computes differently from the other kernels."""
    if not built.apart:
        return ()
    listed = ", ".join(map(str, built.apart[:8])) + (", ..." if len(built.apart) > 8 else "")
    return (
        f"XNNPACK computes the float copies of operators {listed} differently from LiteRT's own "
        "kernels, which compute them here",
    )


def whole_kernels(built: Shadow) -> Kernels:
    """Return the kernels for float copies of a whole file.

    Args:
        built: Its single operators.
    """
    fast = any(part.program.kernels == XNNPACK for part in built.parts)
    return XNNPACK if fast and not built.apart else FLOAT_KERNELS
