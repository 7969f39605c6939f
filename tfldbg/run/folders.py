"""Folders with one file per sample: pictures, or numbered arrays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard
from tfldbg.errors import DataError, MissingExtraError
from tfldbg.run.samples import InputSpec, input_shape, read_arrays

LABELS = "labels"
"""The name of the array with the number of each picture's sub-folder."""
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
_MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of a picture by number of channels."""
_NUMBER = re.compile(r"(\d+)")
_USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""The ranges that pictures are most often mapped to."""


@dataclass(frozen=True, slots=True, eq=False)
class DataContents:
    """The contents of data."""

    arrays: Mapping[str, NDArray[Any]]
    held: int = 0
    """The number of samples if not all were read, otherwise 0."""
    notes: tuple[str, ...] = ()


def picture_files(path: Path) -> list[Path]:
    """Return the pictures of a folder and its sub-folders, or the single picture of a path.

    The first pictures of all folders come first, then the second ones: if each class has a folder,
    a few pictures are of all classes.
    """
    if path.is_file():
        return [path] if path.suffix.lower() in _FORMATS else []
    if not path.is_dir():
        return []
    folders: dict[Path, list[Path]] = {}
    for file in sorted(path.rglob("*"), key=_order):
        if file.suffix.lower() in _FORMATS and not file.name.startswith(".") and file.is_file():
            folders.setdefault(file.parent, []).append(file)
    ranked = [(rank, file) for files in folders.values() for rank, file in enumerate(files)]
    return [file for _, file in sorted(ranked, key=lambda pair: pair[0])]


def _order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts ``2.png`` before ``10.png``."""
    parts = _NUMBER.split(str(path))
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def picture_labels(path: Path) -> NDArray[np.int64] | None:
    """Return the number of each picture's sub-folder as its class, as Keras does, or None.

    Sub-folders are counted from 0 in the order of their names.
    """
    classes = [file.relative_to(path).parts[0] for file in picture_files(path)]
    if not classes or any((path / name).is_file() for name in classes):
        return None
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    return np.array([numbers[name] for name in classes], np.int64)


def pictures(path: Path, spec: InputSpec, limit: int) -> DataContents | None:
    """Read pictures in the layout of the input, uint8; None if there are none.

    Args:
        path: A folder, or one picture.
        spec: The input: (1, height, width, channels) or, as in PyTorch, (1, channels, height,
            width); 1 channel is grey, 3 are RGB.
        limit: The largest number of pictures to read.

    Raises:
        DataError: The input does not accept pictures, or a file is not a picture.
        MissingExtraError: Pillow is not installed.
    """
    if path.is_dir() and any(path.glob("*.npy")):
        return None
    files = picture_files(path)
    if not files:
        return None
    height, width, channels, first = _layout(path, spec)
    size, kept = height * width * channels, files[:limit]
    if size * len(kept) > guard.memory_limit():
        raise DataError(
            f"{len(kept)} pictures of {height}x{width} do not fit into memory",
            hint="read fewer with --samples",
        )
    array = np.empty((len(kept), height, width, channels), np.uint8)
    for row, file in zip(array, kept, strict=True):
        row[:] = _read(file, (width, height), channels)
    if first:
        array = np.moveaxis(array, -1, 1)
    note = f"pictures, resized to {height}x{width} (bilinear), {_MODES[channels]}"
    return DataContents({spec.label: array}, len(files), (note,))


def _layout(path: Path, spec: InputSpec) -> tuple[int, int, int, bool]:
    """Return height, width and channels of an input, and True if the channels come first."""
    shape = spec.tensor.shape_signature
    if len(shape) == 4 and shape[3] in _MODES and min(shape[1:]) > 0:
        return shape[1], shape[2], shape[3], False
    if len(shape) == 4 and shape[1] in _MODES and min(shape[1:]) > 0:
        return shape[2], shape[3], shape[1], True
    raise DataError(
        f"'{path}' holds pictures, and input {spec.describe()} does not say their size",
        hint="pictures fit inputs of (samples, height, width, channels) with 1 or 3 channels; "
        "for others make an array: numpy.savez('data.npz', x=array)",
    )


def _read(file: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("--data with pictures", "Pillow", "images") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=sorted(set(_FORMATS.values()))) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise ValueError(f"it is of mode {picture.mode}, more than 8 bits per channel")
                fitting = picture.convert(_MODES[channels])
                resized = fitting.resize(size, Image.Resampling.BILINEAR)
    except Exception as error:  # decoders raise any exception on damaged files
        raise DataError(
            f"cannot read the picture '{file}': {error}",
            hint="remove it from the folder, or save it anew as PNG or JPEG",
        ) from error
    return np.asarray(resized, np.uint8).reshape(size[1], size[0], channels)


def refuse_pictures(path: Path, inputs: int) -> None:
    """Check that no pictures are given to a model that does not have exactly one input.

    Raises:
        DataError: The path holds pictures.
    """
    if not (path.is_dir() and any(path.glob("*.npy"))) and picture_files(path):
        raise DataError(
            f"'{path}' holds pictures, which are given to a single input, and the model has "
            f"{inputs}",
            hint="make an array for each input: numpy.savez('data.npz', **{input_name: array})",
        )


def without_scale(source: str, spec: InputSpec, limits: tuple[float, float]) -> DataError:
    """Return the error for pictures without a real range for 0 to 255.

    Args:
        source: The pictures.
        spec: The input.
        limits: The real range of the input, with equal ends if the file does not state it.
    """
    low, high = limits
    usual = ", ".join(f"--scale {a:g},{b:g}" for a, b in _USUAL)
    hint = f"give the range that the model was trained on, most often one of {usual}"
    if low < high:
        a, b = min(_USUAL, key=lambda u: abs(u[0] - low) + abs(u[1] - high))
        hint += f"; the file's own input range is {low:.4g} to {high:.4g}: --scale {a:g},{b:g}"
    return DataError(
        f"'{source}' holds pictures, 0 to 255, and input {spec.describe()}: what 0 and 255 stand "
        "for is not known",
        hint=hint,
    )


def arrays_of_files(path: Path, spec: InputSpec, limit: int) -> DataContents | None:
    """Read numbered ``.npy`` files (0.npy, 1.npy, ...) of one or more samples each as one array.

    Args:
        path: A folder.
        spec: The input.
        limit: The largest number of samples to read.

    Returns:
        The samples in the order of the numbers; None if the folder holds other files, or a file
        has the name of the input.

    Raises:
        DataError: A file is damaged.
    """
    files = sorted(path.glob("*.npy"), key=_order) if path.is_dir() else []
    patterns = {_NUMBER.sub("#", file.stem) for file in files}
    named = any(file.stem in spec.names for file in files)
    if named or len(patterns) != 1 or "#" not in next(iter(patterns)):
        return None
    rows: list[NDArray[Any]] = []
    held = 0
    for file in files:
        row = _samples(read_arrays(file)[file.stem], spec)
        if row is None:
            return None
        if held < limit:
            rows.append(np.array(row))
        held += len(row)
    fits = len({(row.shape[1:], row.dtype) for row in rows}) == 1
    return DataContents({spec.label: np.concatenate(rows)}, held) if fits else None


def _samples(array: NDArray[Any], spec: InputSpec) -> NDArray[Any] | None:
    """Return the array with an axis of samples, or None if it does not fit the input."""
    if array.ndim and input_shape(spec.tensor, array.shape[1:]) is not None:
        return array
    return array[np.newaxis] if input_shape(spec.tensor, array.shape) is not None else None
