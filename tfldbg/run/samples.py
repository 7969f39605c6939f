"""Input data: from files, arrays or a seed to the arrays for both models."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard
from tfldbg.errors import DataError
from tfldbg.graph.query import numpy_type

if TYPE_CHECKING:
    from tfldbg.graph.model import Signature, Subgraph, Tensor

Arrays = Mapping[str, NDArray[Any]]

_PIECE = 8 << 20
"""The number of bytes to check at a time."""
_STRING_KINDS = "SUO"
"""NumPy's kinds of strings; the elements of object arrays are checked."""


@dataclass(frozen=True, slots=True, eq=False)
class InputSpec:
    """One input of the model with all its names."""

    tensor: Tensor
    names: tuple[str, ...]
    """The signature's argument, the tensor name, and the plain form of the tensor name."""

    @property
    def label(self) -> str:
        """The name of the input in messages."""
        return self.names[0]

    def describe(self) -> str:
        """Return name, type and shape as the expected value in an error message."""
        kind = self.tensor.type.lower()
        codes = " codes, or float real values" if self.tensor.has_codes else ""
        shape = ", ".join(str(d) if d >= 0 else "?" for d in _sample_shape(self.tensor))
        return f"'{self.label}': (samples, {shape}) {kind}{codes}"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples for every input: codes for TFLite, real units for the reference."""

    specs: tuple[InputSpec, ...]
    arrays: tuple[NDArray[Any], ...]
    """For each input (N, ...): codes in its type, real units in float32, or bytes (strings)."""
    source: str
    """The given path, ``"arrays"``, or ``"random"``."""
    held: int = 0
    """The number of samples in the source, including those beyond the limit; 0 for random ones."""
    stream_steps: int = 1
    """The number of consecutive samples that form one stream; 1 for independent samples."""
    notes: tuple[str, ...] = ()
    """Notes about changes to the source that the user did not request."""

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.arrays[0]) if self.arrays else 1

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each TFLite input."""
        return tuple(array.shape for array in self.codes(0))

    def begins_stream(self, index: int) -> bool:
        """Return whether the state is reset before a sample."""
        return index % self.stream_steps == 0

    def stream_start(self, index: int) -> int:
        """Return the first sample of the stream of a sample."""
        return index - index % self.stream_steps

    def codes(self, index: int) -> list[NDArray[Any]]:
        """Return the TFLite inputs of one sample, in their own types and shapes."""
        return [
            _as_input(spec.tensor, array[index : index + 1].reshape(array.shape[1:]))
            for spec, array in zip(self.specs, self.arrays, strict=True)
        ]

    def real(self, start: int, stop: int) -> list[NDArray[Any]]:
        """Return samples ``start`` to ``stop`` of every input in real units: (n, ...)."""
        return [
            _as_real(spec.tensor, array[start:stop])
            for spec, array in zip(self.specs, self.arrays, strict=True)
        ]


def input_specs(subgraph: Subgraph, signature: Signature | None) -> tuple[InputSpec, ...]:
    """Return the inputs of a subgraph, with the signature's argument names first."""
    arguments = {i: name for name, i in signature.inputs.items()} if signature else {}
    specs = []
    for index in subgraph.inputs:
        tensor = subgraph.tensors[index]
        plain = tensor.name.split(":")[0].removeprefix("serving_default_")
        names = dict.fromkeys((arguments.get(index, plain), plain, tensor.name))
        specs.append(InputSpec(tensor, tuple(n for n in names if n) or (f"input {index}",)))
    return tuple(specs)


def read_arrays(path: Path, only: str | None = None) -> Arrays:
    """Read ``.npz``, ``.npy``, ``.h5`` or a folder of ``.npy`` into named arrays.

    Args:
        path: The path to read.
        only: The name of the only array to read, or None for all.

    Raises:
        DataError: The path is missing or not a data file.
    """
    try:
        if path.is_dir():
            files = sorted(path.glob("*.npy"))
            return {f.stem: _load_npy(f) for f in files if only in (None, f.stem)}
        if path.suffix == ".npy":
            return {path.stem: _load_npy(path)}
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as checked:
                guard.check_npz(checked)
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files if only in (None, key)}
        if path.suffix in (".h5", ".hdf5"):
            return _load_hdf5(path, only)
    except FileNotFoundError as error:
        raise DataError(
            f"the data '{path}' does not exist", hint="check the path given with --data"
        ) from error
    except guard.UNREADABLE as error:
        raise DataError(
            f"cannot read the data '{path}': {error}",
            hint="save it with numpy.savez(path, **{input_name: array})",
        ) from error
    raise DataError(
        f"'{path}' is not a data file: expected .npz, .npy, .h5, or a folder of .npy or pictures",
        hint="save it with numpy.savez('data.npz', x=array)",
    )


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a few samples at a time, because a mapped array may be larger than the memory."""
    size = array.nbytes // max(1, len(array)) if array.ndim else 1
    step = max(1, _PIECE // max(1, size))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _load_npy(path: Path) -> NDArray[Any]:
    guard.check_npy(path)
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _load_hdf5(path: Path, only: str | None) -> Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        guard.check_hdf5(file)
        return {
            key: np.asarray(value)
            for key, value in file.items()
            if only in (None, key)
            and isinstance(value, h5py.Dataset)
            and value.dtype.kind in "biuf"
        }


def choose(
    specs: tuple[InputSpec, ...],
    arrays: Arrays,
    source: str,
    *,
    limit: int | None,
    mapping: Mapping[str, str],
    scale: tuple[float, float] | None = None,
) -> Samples:
    """Return the array of every input, checked and cut to ``limit`` samples.

    Args:
        specs: The inputs of the model.
        arrays: The named arrays, first axis samples.
        source: The source of the arrays, for messages and reports.
        limit: The largest number of samples to keep, or None for all.
        mapping: The array name for each input name that differs.
        scale: The real values of 0 and 255 in uint8 arrays, or None to leave them unchanged.

    Raises:
        DataError: An input has no array, or one with a wrong shape, type or content.
    """
    chosen = [_array_for(spec, specs, arrays, source, mapping) for spec in specs]
    for spec, array in zip(specs, chosen, strict=True):
        if array.ndim == 0:
            raise _misfit(spec, array, source)
    counts = {len(array) for array in chosen}
    if len(counts) > 1:
        sizes = ", ".join(f"'{s.label}' {len(a)}" for s, a in zip(specs, chosen, strict=True))
        raise DataError(
            f"the inputs in '{source}' hold different numbers of samples: {sizes}",
            hint="give every input the same first axis",
        )
    if counts == {0}:
        raise DataError(f"'{source}' holds no samples", hint="give at least one sample")
    kept = [np.asarray(array[:limit]) for array in chosen]
    notes = _unscaled(specs, kept)
    if scale is not None:
        kept = _scaled(specs, kept, scale, source)
        notes = (f"0 to 255 of uint8 data stand for {scale[0]:g} to {scale[1]:g}",)
    return Samples(
        specs,
        tuple(_checked(s, a, source) for s, a in zip(specs, kept, strict=True)),
        source,
        max(counts, default=0),
        notes=notes,
    )


def takes_real(tensor: Tensor) -> bool:
    """Return whether an input accepts real values, unchanged or to be quantized."""
    dtype = numpy_type(tensor)
    return tensor.has_codes or (dtype is not None and dtype.kind == "f")


def _scaled(
    specs: Sequence[InputSpec],
    arrays: Sequence[NDArray[Any]],
    scale: tuple[float, float],
    source: str,
) -> list[NDArray[Any]]:
    """Return arrays with 0 to 255 of uint8 arrays mapped to real values, float32."""
    low, high = scale
    mapped = [
        np.float32(low) + array * np.float32((high - low) / 255)
        if array.dtype == np.uint8 and takes_real(spec.tensor)
        else array
        for spec, array in zip(specs, arrays, strict=True)
    ]
    if all(one is other for one, other in zip(mapped, arrays, strict=True)):
        raise DataError(
            f"--scale maps 0 to 255 of uint8 data to real values, and '{source}' is "
            f"{', '.join(str(a.dtype) for a in arrays)}",
            hint="leave --scale out: float data is taken as it is, in real units",
        )
    return mapped


def _unscaled(specs: Sequence[InputSpec], arrays: Sequence[NDArray[Any]]) -> tuple[str, ...]:
    """Return notes about float inputs that get bytes unchanged, for models that rescale them."""
    return tuple(
        f"input '{spec.label}' takes float values and was given uint8 data as it is, 0 to "
        f"{array.max()}; if it was trained on another range, map 0 to 255 to it: --scale LOW,HIGH"
        for spec, array in zip(specs, arrays, strict=True)
        if array.dtype == np.uint8 and not spec.tensor.has_codes and takes_real(spec.tensor)
    )


def _array_for(
    spec: InputSpec,
    specs: tuple[InputSpec, ...],
    arrays: Arrays,
    source: str,
    mapping: Mapping[str, str],
) -> NDArray[Any]:
    wanted = [mapping[name] for name in spec.names if name in mapping]
    for name in (*wanted, *spec.names):
        if name in arrays:
            return arrays[name]
    fitting = [key for key, array in arrays.items() if _fits(spec.tensor, array)]
    if not wanted and len(fitting) == 1 and (len(specs) == 1 or len(arrays) == len(specs)):
        return arrays[fitting[0]]
    if not wanted and len(arrays) == 1 and len(specs) == 1:
        return next(iter(arrays.values()))
    held = "; ".join(f"'{k}' {a.shape} {a.dtype}" for k, a in arrays.items()) or "nothing"
    raise DataError(
        f"no array in '{source}' for input {spec.describe()}; found {held}",
        hint=f"name the array '{spec.label}', or use --input '{spec.label}=KEY'",
    )


def _sample_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of one sample: the tensor's, without a batch of one or of dynamic size."""
    signature = tensor.shape_signature
    return signature[1:] if tensor.shape[:1] == (1,) else signature


def _fits(tensor: Tensor, array: NDArray[Any]) -> bool:
    """Return whether one sample has the tensor's shape, ignoring dimensions of one."""
    kinds = _STRING_KINDS if tensor.type == "STRING" else "biuf"
    return (
        array.dtype.kind in kinds
        and array.ndim > 0
        and input_shape(tensor, array.shape[1:]) is not None
    )


def input_shape(tensor: Tensor, sample: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape in which an input accepts a sample, or None if it does not fit."""
    inner = _aligned(_sample_shape(tensor), tuple(sample))
    return (1, *inner) if inner is not None and tensor.shape[:1] == (1,) else inner


def _aligned(expected: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return a shape with the rank of ``expected`` (-1 is dynamic), adding or removing ones."""
    if not expected:
        return () if all(d == 1 for d in found) else None
    rest = _aligned(expected[1:], found[1:]) if found and expected[0] in (-1, found[0]) else None
    if rest is not None:
        return (found[0], *rest)
    rest = _aligned(expected[1:], found) if expected[0] in (-1, 1) else None
    if rest is not None:
        return (1, *rest)
    return _aligned(expected, found[1:]) if found[:1] == (1,) else None


def _misfit(spec: InputSpec, array: NDArray[Any], source: str) -> DataError:
    return DataError(
        f"the data '{source}' does not fit input {spec.describe()}; "
        f"found {array.shape} {array.dtype}",
        hint=_fitting(spec.tensor, array)
        or "the first axis counts samples, the others must be the input's",
    )


def _fitting(tensor: Tensor, array: NDArray[Any]) -> str | None:
    """Return a hint for an array with axes in another order, or without an axis of samples."""
    if array.ndim and _fits(tensor, array[np.newaxis]):
        return "it is one sample, without the axis that counts samples: give x[numpy.newaxis]"
    for found, source, target in (("first", 1, -1), ("last", -1, 1)):
        if array.ndim > 2 and _fits(tensor, np.moveaxis(array, source, target)):
            return (
                f"its channels come {found}, the input's do not: give "
                f"numpy.moveaxis(x, {source}, {target})"
            )
    return None


def _checked(spec: InputSpec, array: NDArray[Any], source: str) -> NDArray[Any]:
    if not _fits(spec.tensor, array):
        raise _misfit(spec, array, source)
    if spec.tensor.type == "STRING":
        return _strings(spec, array, source)
    dtype = numpy_type(spec.tensor)
    if dtype is None:
        raise DataError(
            f"input {spec.describe()} takes no numbers, so no data can be given to it",
            hint="trace another signature with --signature NAME",
        )
    if array.dtype.kind == "f":
        _refuse_nonfinite(spec, array, source)
        if spec.tensor.has_codes or dtype.kind == "f":
            return array.astype(np.float32, copy=False)
    elif array.dtype == dtype or dtype.kind == "f" or not spec.tensor.has_codes:
        return array.astype(dtype, copy=False)
    pictures = "; or map 0 to 255 to real values, as in training: --scale LOW,HIGH"
    raise DataError(
        f"the data '{source}' is {array.dtype}, but input {spec.describe()}",
        hint=f"give float data in real units, or {dtype} data as codes"
        f"{pictures if array.dtype == np.uint8 else ''}",
    )


def _strings(spec: InputSpec, array: NDArray[Any], source: str) -> NDArray[Any]:
    """Return strings in TFLite's form: bytes, with text encoded as UTF-8."""
    encoded = np.empty(array.size, object)
    for number, value in enumerate(array.reshape(-1)):
        encoded[number] = value.encode() if isinstance(value, str) else value
        if not isinstance(encoded[number], bytes):
            raise _misfit(spec, array, source)
    return encoded.reshape(array.shape)


def _refuse_nonfinite(spec: InputSpec, array: NDArray[Any], source: str) -> None:
    if all(np.isfinite(piece).all() for piece in pieces(array)):
        return
    bad = ~np.isfinite(array)
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    raise DataError(
        f"the data '{source}' holds {int(bad.sum())} NaN or infinite values for input "
        f"'{spec.label}', the first in sample {where[0]} at {list(where[1:])}",
        hint="clean the data: no model can be judged on inputs that are not numbers",
    )


def _as_input(tensor: Tensor, sample: NDArray[Any]) -> NDArray[Any]:
    shape = input_shape(tensor, sample.shape)
    if shape is None:
        shape = tensor.shape  # random samples have this shape
    if tensor.type == "STRING":
        return sample.reshape(shape)
    if tensor.affine is not None and sample.dtype.kind == "f":
        sample = tensor.affine.quantize(sample, tensor.type)
    dtype = numpy_type(tensor)
    return np.ascontiguousarray(sample, dtype).reshape(shape)


def _as_real(tensor: Tensor, batch: NDArray[Any]) -> NDArray[Any]:
    if tensor.affine is not None and batch.dtype.kind != "f":
        return tensor.affine.dequantize(batch)
    return batch
