"""A reference computed by a user-defined function, stored as a recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import CaptureError, PluginError
from tfldbg.plugins import RAISED
from tfldbg.reference.recorded import INPUT

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph
    from tfldbg.options.sources import Arrays, ReferenceFunction


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A batch of samples."""

    start: int
    arrays: Arrays
    """The arguments of the function, by input name, (n, ...)."""
    codes: Mapping[int, NDArray[Any]]
    """The same values in the file's input types, by input tensor, (n, ...)."""

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.codes.values()))) if self.codes else 1

    @property
    def label(self) -> str:
        """The name of the samples in messages."""
        return f"samples {self.start} to {self.start + self.count - 1}"


class FunctionRecorder:
    """Calls a function on batches of samples and writes the results to a file.

    The file is a recording as in ``docs/recording.md``: the inputs in the file's types, and every
    tensor that the function computes, by name.

    Args:
        name: The name of the function in messages.
        function: The reference.
        subgraph: The subgraph of the traced file.
    """

    def __init__(self, name: str, function: ReferenceFunction, subgraph: Subgraph) -> None:
        self._name, self._function, self._subgraph = name, function, subgraph
        self.floats: set[str] = set()
        """The names of the tensors that the function returns as floats."""
        self._producers = {subgraph.tensors[i].name: op for i, op in subgraph.producers.items()}

    def record(self, batches: Iterable[Given], path: Path) -> None:
        """Write the recording.

        Args:
            batches: The samples in order.
            path: The file to write.

        Raises:
            PluginError: The function raises an exception, or returns anything other than arrays of
                numbers by tensor name whose first axis is samples.
            CaptureError: The disk is full.
        """
        import h5py

        try:
            with h5py.File(path, "w") as file:
                for given in batches:
                    returned = self._call(given)
                    arrays = {n: self._checked(n, a, given) for n, a in returned.items()}
                    self._append(file, given, arrays)
        except OSError as error:
            raise CaptureError(
                f"cannot keep what the reference '{self._name}' computes in '{path}': {error}",
                hint="free some space, set TMPDIR to another folder, or give fewer --samples",
            ) from error

    def _call(self, given: Given) -> Mapping[Any, Any]:
        try:
            returned = self._function(given.arrays)
        except RAISED as error:
            shapes = ", ".join(f"'{n}' {a.shape} {a.dtype}" for n, a in given.arrays.items())
            raise PluginError(
                f"the reference '{self._name}' fails on {given.label}: "
                f"{type(error).__name__}: {error}",
                hint=f"it is called with the inputs by name: {shapes}",
            ) from error
        if not isinstance(returned, Mapping) or not returned:
            raise PluginError(
                f"the reference '{self._name}' returns {_kind(returned)} on {given.label}, "
                "expected arrays by tensor name",
                hint="return a dict: {tensor name: array}; tfldbg inspect MODEL.tflite shows names",
            )
        own = {self._subgraph.tensors[i].name for i in self._subgraph.inputs}
        return {name: values for name, values in returned.items() if name not in own}

    def _checked(self, name: Any, values: Any, given: Given) -> NDArray[Any]:
        """Return the values of one tensor as an array."""
        where = f"the reference '{self._name}', {self._tensor(name)}, {given.label}"
        try:
            array = np.asarray(values)
        except Exception as error:  # any returned object may raise
            raise PluginError(
                f"{where}: cannot convert {_kind(values)} to an array: {error}",
                hint="return NumPy arrays",
            ) from error
        counted = array.shape[:1] == (given.count,) and array.size
        if array.dtype.kind not in "biuf" or not counted:
            raise PluginError(
                f"{where}: {array.dtype} of shape {array.shape}, expected numbers of shape "
                f"({given.count}, ...)",
                hint="the first axis counts the samples that it is called with",
            )
        if array.dtype.kind == "f" and np.isnan(array).any():
            sample = given.start + int(np.argwhere(np.isnan(array))[0][0])
            raise PluginError(
                f"{where}: NaN, first in sample {sample}",
                hint="NaN cannot be compared with anything; leave the tensor out",
            )
        if array.dtype.kind != "f":
            return array
        self.floats.add(str(name))
        return array.astype(np.float32)

    def _tensor(self, name: Any) -> str:
        op = self._producers.get(name)
        return f"operator {op.index} {op.kind} '{name}'" if op else f"'{name}'"

    def _append(self, file: Any, given: Given, arrays: Mapping[Any, NDArray[Any]]) -> None:
        inputs = len(self._subgraph.inputs)
        if given.start == 0:
            for number, index in enumerate(self._subgraph.inputs):
                self._describe_input(_created(file, number, given.codes[index]), index)
            for number, (name, array) in enumerate(arrays.items(), inputs):
                _created(file, number, array).attrs["name"] = str(name)
            return
        groups = {group.attrs["name"]: group for group in list(file["tensors"].values())[inputs:]}
        if set(groups) != {str(name) for name in arrays}:
            odd = sorted(set(groups) ^ {str(name) for name in arrays})
            raise PluginError(
                f"the reference '{self._name}' returns other tensors on {given.label} than before: "
                f"'{odd[0]}' is not in both",
                hint="return the same tensors for all samples",
            )
        for number, index in enumerate(self._subgraph.inputs):
            self._extend(file[_path(number)], given.codes[index], given)
        for name, array in arrays.items():
            self._extend(groups[str(name)], array, given)

    def _describe_input(self, group: Any, index: int) -> None:
        tensor = self._subgraph.tensors[index]
        group.attrs["name"], group.attrs["kind"], group.attrs["operator"] = tensor.name, INPUT, -1
        affine = tensor.affine
        if affine is not None:
            group.attrs["scale"], group.attrs["zero_point"] = affine.scale, affine.zero_point

    def _extend(self, group: Any, array: NDArray[Any], given: Given) -> None:
        dataset = group["values"]
        if dataset.shape[1:] != array.shape[1:]:
            raise PluginError(
                f"the reference '{self._name}', {self._tensor(group.attrs['name'])}, {given.label}:"
                f" shape {array.shape[1:]} per sample, but {dataset.shape[1:]} before",
                hint="return the same shape for all samples",
            )
        dataset.resize(len(dataset) + len(array), axis=0)
        dataset[-len(array) :] = array


def _created(file: Any, number: int, array: NDArray[Any]) -> Any:
    group = file.create_group(_path(number))
    group.create_dataset("values", data=array, maxshape=(None, *array.shape[1:]), chunks=True)
    return group


def _path(number: int) -> str:
    return f"tensors/{number:05d}"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "no tensor"
    return f"a value of type {type(value).__name__}"
