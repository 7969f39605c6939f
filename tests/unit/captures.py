"""Recordings that lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference.capture import Capture
from tfldbg.reference.recorded import Contents, Recorded

SCALE = 0.5


@dataclass
class Held:
    """The values by place; notes how much is read at a time."""

    values: tuple[NDArray[Any], ...]
    most: int = field(default=0)
    """The most samples that were read at a time."""

    def read(self, number: int, start: int, stop: int) -> NDArray[Any]:
        self.most = max(self.most, stop - start)
        return self.values[number][start:stop]

    def close(self) -> None:
        """Nothing is open."""


def recorded(number: int, values: NDArray[Any], **about: Any) -> Recorded:
    """Describe an array: int8 codes have the scale `SCALE` and zero point 0, others have none."""
    coded = values.dtype == np.int8
    told: dict[str, Any] = {
        "index": number,
        "name": f"t{number}",
        "type": values.dtype.name.upper(),
        "shape": values.shape[1:],
        "scale": SCALE if coded else None,
        "zero_point": 0 if coded else None,
        "operator": None,
        "kind": None,
        "reads": None,
    }
    return Recorded(number, **{**told, **about})


def capture(
    *tensors: tuple[NDArray[Any], Mapping[str, Any]], path: str = "run.h5", **run: Any
) -> tuple[Capture, Held]:
    """Return an open recording of arrays, each with what is told about it."""
    arrays = tuple(values for values, _ in tensors)
    about = tuple(recorded(n, values, **told) for n, (values, told) in enumerate(tensors))
    held = Held(arrays)
    return Capture(path, Contents(about, len(arrays[0]), run, held)), held
