"""The types of what users give: files, data, labels, and their own functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ModelSource = Path | str | bytes
"""A .tflite file: its path or its bytes."""
DataSource = Path | str | NDArray[Any] | Mapping[str, NDArray[Any]] | None
"""Input data: a path, an array for a single input, or arrays by input name; None for random
data."""
LabelSource = Path | str | NDArray[Any] | None
"""The right class of each sample: an array, a path, or the name of an array of the data."""
Arrays = Mapping[str, NDArray[Any]]
ReferenceFunction = Callable[[Arrays], Arrays]
"""A function from inputs by name, (n, ...) float32 in real units, to tensors by name; the first
axis is samples."""
Metric = Callable[[NDArray[np.float32], NDArray[np.float32]], float]
"""A function of the reference's and TFLite's values of one sample of one tensor: float32, real
units, both in the shape of the tensor.  It returns a number; infinity is allowed, NaN is not."""
Metrics = Mapping[str, Metric] | Sequence[str] | None
"""Metrics by name, or names of entry points or of functions."""
