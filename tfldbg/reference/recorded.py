"""The contents of a recording, independent of its file format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import CaptureError
from tfldbg.quant import Affine

INPUT = "INPUT"
"""The kind of a tensor that no operator writes, in the recording layout."""

LAYOUT_HINT = "docs/recording.md shows how to write a recording with h5py"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded tensor."""

    number: int
    """The position in the recording."""
    index: int | None
    """The index in the file that it was recorded from, if the recording states it."""
    name: str
    type: str
    """The TFLite type name of the stored values."""
    shape: tuple[int, ...]
    """The shape of one sample."""
    scale: float | None
    zero_point: int | None
    operator: int | None
    """The operator that writes it, -1 for an input of the model, None if unknown."""
    kind: str | None
    reads: tuple[int, ...] | None
    """The indices of the tensors that its operator reads, or None if unknown."""
    activation: bool = True
    """True if it holds values of the network, False for shapes."""
    rule: str | None = None
    """The rule that bounds its operator's error (`tfldbg.diagnose.bounds.Bound`), if known."""
    extra_lsb: tuple[float, ...] = ()
    """The errors that its operator's kernel adds to rounding, LSB, if known."""

    @property
    def elements(self) -> int:
        """The number of values in one sample."""
        return math.prod(self.shape)

    @property
    def label(self) -> str:
        """The name of the tensor in messages."""
        return self.name or f"tensor {self.index}"

    @property
    def is_input(self) -> bool:
        """Return whether it is an input of the model."""
        return self.operator == -1 or self.kind == INPUT

    @property
    def is_float(self) -> bool:
        """Return whether its values are in real units already."""
        return self.type.startswith("FLOAT")

    @property
    def affine(self) -> Affine | None:
        """The scale and zero point of its codes; None for real units and without a scale."""
        if self.scale is None or self.zero_point is None or self.is_float:
            return None
        return Affine(self.scale, self.zero_point)


class RecordedValues(Protocol):
    """The values of an open recording."""

    def read(self, number: int, start: int, stop: int) -> NDArray[Any]:
        """Return samples ``start`` to ``stop`` of one tensor: (n, ...) as stored."""

    def descriptor(self) -> int:
        """Return the descriptor of the open file."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """An open file."""

    tensors: tuple[Recorded, ...]
    """The tensors in the file's order."""
    samples: int
    """The number of samples of every tensor."""
    run: Mapping[str, Any]
    """The facts that the recording states about its run: ``run`` of ``/evidence``, or empty."""
    values: RecordedValues


def count_samples(path: Path, lengths: Mapping[str, int]) -> int:
    """Return the number of samples of every tensor.

    Args:
        path: The recording, for messages.
        lengths: The size of the first axis of each tensor.

    Raises:
        CaptureError: There are no samples, or tensors have different numbers of samples.
    """
    if not lengths:
        raise CaptureError(f"the recording '{path}' holds no tensor", hint=LAYOUT_HINT)
    least, most = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    if lengths[least] != lengths[most]:
        raise CaptureError(
            f"the tensors of '{path}' have different numbers of samples: '{least}' "
            f"{lengths[least]}, '{most}' {lengths[most]}",
            hint="the first axis of every tensor must count the same samples",
        )
    if not lengths[most]:
        raise CaptureError(f"'{path}' holds no samples", hint="record at least one sample")
    return lengths[most]


def stored_type(dtype: np.dtype[Any], said: str) -> str:
    """Return the TFLite type of an array.

    Args:
        dtype: The type of the array.
        said: The type that the recording states, which counts for codes with fewer bits.
    """
    own = dtype.name.upper()
    packed = {"INT8": ("INT4", "INT2"), "UINT8": ("UINT4",)}.get(own, ())
    return said if said in packed else own
