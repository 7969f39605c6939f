"""The memory of a model's tensors, and the messages of runtimes that lack memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tfldbg.graph.query import numpy_type

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor

_GIB = 1 << 30
_WORDS = re.compile(r"bad_alloc|MemoryError|length_error|[Cc]annot allocate|[Oo]ut of memory")


def wanted(subgraph: Subgraph) -> int:
    """Return the total size of the tensors that the runtime computes, bytes.

    An exposed model needs this much: every tensor is an output, and no two share memory.
    """
    return sum(size_of(t) for t in subgraph.tensors if not t.has_data)


def largest(subgraph: Subgraph) -> str:
    """Return the largest computed tensor and the operator that writes it, in words."""
    tensor = max((t for t in subgraph.tensors if not t.has_data), key=size_of, default=None)
    if tensor is None:
        return "it computes no tensor"
    producer = subgraph.producers.get(tensor.index)
    where = f"of operator {producer.index} {producer.kind}" if producer else "an input"
    size = bytes_in_words(size_of(tensor))
    return f"its largest tensor is {tensor.index} '{tensor.name}' {where}, {size}"


def too_little(subgraph: Subgraph, said: str, limit: int | None) -> bool:
    """Return whether a runtime failed because memory ran out.

    Args:
        subgraph: The subgraph to run.
        said: Its error or last output.  It is empty if the runtime's own allocation fails.
        limit: The limit in bytes, or None.
    """
    if _WORDS.search(said):
        return True
    return limit is not None and not said.strip() and wanted(subgraph) > limit


def bytes_in_words(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / _GIB:.3g} GiB" if size >= _GIB // 10 else f"{size / (1 << 20):.3g} MiB"


def size_of(tensor: Tensor) -> int:
    """Return the size of a tensor in bytes; that of strings and handles is unknown."""
    kind = numpy_type(tensor)
    return max(tensor.elements, 0) * (kind.itemsize if kind else 1)
