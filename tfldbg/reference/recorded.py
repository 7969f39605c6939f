"""What a recording of another run holds, whatever file it lies in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import CaptureError

INPUT = "INPUT"
"""What the layout calls the kind of a tensor that no operator writes."""

LAYOUT_HINT = "docs/recording.md shows how to write a recording with h5py"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded tensor."""

    number: int
    """Its place in the recording."""
    index: int | None
    """Its index in the file that it was recorded from, where the recording tells."""
    name: str
    type: str
    """TFLite type name of the values as they are stored."""
    shape: tuple[int, ...]
    """Of one sample."""
    scale: float | None
    zero_point: int | None
    operator: int | None
    """The operator that writes it, -1 for an input of the model, None where nobody says."""
    kind: str | None
    reads: tuple[int, ...] | None
    """Indices of the tensors that its operator reads, None where nobody says."""
    activation: bool = True
    """Whether it holds values of the network; shapes are none."""
    rule: str | None = None
    """The rule that bounds its operator's error (`tfldbg.diagnose.bounds.Bound`), where known."""
    extra_lsb: tuple[float, ...] = ()
    """The same for what its kernel is known to add to rounding, LSB."""

    @property
    def elements(self) -> int:
        """Number of values of one sample."""
        return math.prod(self.shape)

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.name or f"tensor {self.index}"

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model."""
        return self.operator == -1 or self.kind == INPUT

    @property
    def is_float(self) -> bool:
        """Whether its values are real units already."""
        return self.type.startswith("FLOAT")


class Values(Protocol):
    """Where the values of a recording lie."""

    def read(self, number: int, start: int, stop: int) -> NDArray[Any]:
        """Return samples ``start`` to ``stop`` of one tensor: (n, ...) as stored."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """An open file."""

    tensors: tuple[Recorded, ...]
    """In the file's order."""
    samples: int
    """How many every tensor has."""
    run: Mapping[str, Any]
    """What the recording says about itself: ``run`` of ``/evidence``, else empty."""
    values: Values


def count_samples(path: Path, lengths: Mapping[str, int]) -> int:
    """Return how many samples every tensor has.

    Args:
        path: The recording, for messages.
        lengths: By tensor the size of its first axis.

    Raises:
        CaptureError: There is none, or they do not all have the same number.
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
        dtype: Of the array.
        said: What the recording says, which holds for codes of fewer bits than their array.
    """
    own = dtype.name.upper()
    packed = {"INT8": ("INT4", "INT2"), "UINT8": ("UINT4",)}.get(own, ())
    return said if said in packed else own
