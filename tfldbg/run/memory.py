"""What a model's tensors take in memory, and how a runtime says that there is not enough."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tfldbg.graph.query import numpy_type, producers

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor

_GIB = 1 << 30
_WORDS = re.compile(r"bad_alloc|MemoryError|length_error|[Cc]annot allocate|[Oo]ut of memory")


def wanted(subgraph: Subgraph) -> int:
    """Return the bytes that the tensors take which the runtime computes, all of them at once.

    An exposed model needs that much: every tensor is an output, and no two share a place.
    """
    return sum(size_of(t) for t in subgraph.tensors if not t.has_data)


def largest(subgraph: Subgraph) -> str:
    """Say which computed tensor is the largest, and which operator writes it."""
    tensor = max((t for t in subgraph.tensors if not t.has_data), key=size_of, default=None)
    if tensor is None:
        return "it computes no tensor"
    writer = producers(subgraph).get(tensor.index)
    where = f"of operator {writer.index} {writer.kind}" if writer else "an input"
    return (
        f"its largest tensor is {tensor.index} '{tensor.name}' {where}, {worded(size_of(tensor))}"
    )


def too_little(subgraph: Subgraph, said: str, limit: int | None) -> bool:
    """Tell whether a runtime failed for want of memory.

    Args:
        subgraph: What it was to run.
        said: Its error or its last words.  It has none where its own allocation fails.
        limit: Bytes that it had.
    """
    if _WORDS.search(said):
        return True
    return limit is not None and not said.strip() and wanted(subgraph) > limit


def worded(size: int) -> str:
    """Word a number of bytes."""
    return f"{size / _GIB:.3g} GiB" if size >= _GIB // 10 else f"{size / (1 << 20):.3g} MiB"


def size_of(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes; those of strings and handles are not known."""
    kind = numpy_type(tensor)
    return max(tensor.elements, 0) * (kind.itemsize if kind else 1)
