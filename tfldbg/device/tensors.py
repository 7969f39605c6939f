"""The outputs of an exposed file as bytes, the format of devices without Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import CaptureError
from tfldbg.graph.query import numpy_type

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor


def output_tensors(subgraph: Subgraph, path: str) -> tuple[Tensor, ...]:
    """Return the outputs of an exposed file in the order in which a device writes them.

    Raises:
        CaptureError: The size of an output is unknown.
    """
    tensors = tuple(subgraph.tensors[i] for i in subgraph.outputs)
    for tensor in tensors:
        if numpy_type(tensor) is None or -1 in tensor.shape_signature[1:]:
            raise CaptureError(
                f"output {label(tensor)} of '{path}' is {tensor.type.lower()} of shape "
                f"{list(tensor.shape_signature)}: its bytes alone do not tell its values",
                hint="run tfldbg/device/record.py on the device instead (tfldbg kit --for board)",
            )
    return tensors


def label(tensor: Tensor) -> str:
    """Return the name of a tensor in messages."""
    return f"{tensor.index} '{tensor.name}'"


def size_of(tensor: Tensor) -> int:
    """Return the size of one sample of a tensor, bytes."""
    dtype = numpy_type(tensor)
    return tensor.elements * dtype.itemsize if dtype else 0


def split(content: bytes, tensors: Sequence[Tensor], source: str) -> list[bytes]:
    """Split the bytes of one sample into those of its consecutive tensors.

    Raises:
        CaptureError: There are too few or too many bytes.
    """
    cuts, start = [], 0
    for tensor in tensors:
        size = size_of(tensor)
        cuts.append(content[start : start + size])
        if len(cuts[-1]) < size:
            raise CaptureError(
                f"'{source}' ends within tensor {label(tensor)}: expected {size} bytes, found "
                f"{len(cuts[-1])}; {len(content)} bytes in all, expected "
                f"{sum(map(size_of, tensors))}",
                hint="give the file that ran with --model, and one file for each sample",
            )
        start += size
    if start < len(content):
        raise CaptureError(
            f"'{source}' has {len(content)} bytes, expected {start} for the {len(tensors)} outputs "
            "of the model",
            hint="give the file that ran with --model, and one file for each sample",
        )
    return cuts


def as_array(content: bytes, tensor: Tensor) -> NDArray[Any]:
    """Return one sample of a tensor as an array; devices are little-endian."""
    dtype = numpy_type(tensor) or np.dtype(np.uint8)
    return np.frombuffer(content, dtype.newbyteorder("<")).reshape(tensor.shape)
