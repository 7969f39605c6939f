"""Read a recording in the HDF5 layout of ``docs/recording.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard
from tfldbg.errors import CaptureError
from tfldbg.reference.recorded import (
    LAYOUT_HINT,
    Contents,
    Recorded,
    count_samples,
    stored_type,
)

FORMAT = "tfldbg.run"
READABLE = (1, 2)
"""The versions of the format that this tfldbg reads; a file that states none is read as well."""


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn exceptions that h5py raises on damaged or foreign files into a CaptureError."""
    try:
        yield
    except guard.UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise CaptureError(
            f"cannot read the recording '{path}': {reason}", hint=LAYOUT_HINT
        ) from error


def open_hdf5(path: Path, source: Path | BinaryIO) -> Contents:
    """Open a file.

    Args:
        path: Its name in messages.
        source: The file, or its content.

    Raises:
        CaptureError: It is damaged or has another layout.
    """
    import h5py

    with _readable(path):
        file = h5py.File(source, "r")
    try:
        with _readable(path):
            guard.check_hdf5(file, whole=False)
            return _Hdf5(path, file).contents()
    except CaptureError:
        file.close()
        raise


def check_version(path: Path, version: int) -> None:
    """Check that this tfldbg reads a version of the format.

    Raises:
        CaptureError: It does not.
    """
    if version not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise CaptureError(
            f"'{path}' has format version {version}, this tfldbg reads {readable}",
            hint="record it again, or install the tfldbg that wrote it",
        )


class _Hdf5:
    """The documented layout."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        self._datasets: list[Any] = []

    def read(self, number: int, start: int, stop: int) -> NDArray[Any]:
        with _readable(self._path):
            values: NDArray[Any] = self._datasets[number][start:stop]
            return values

    def descriptor(self) -> int:
        return int(self._file.id.get_vfd_handle())

    def close(self) -> None:
        self._file.close()

    def contents(self) -> Contents:
        """Return a description of the file's contents."""
        self._check_format()
        groups = self._member(self._file, "tensors", "Group")
        if groups is None:
            keras = "model_weights" in self._file or "model_config" in self._file.attrs
            raise CaptureError(
                f"'{self._path}' is not a recording: it has no group '/tensors'",
                hint=f"it is a Keras model: --keras {self._path}" if keras else LAYOUT_HINT,
            )
        evidence = self._evidence()
        operators = _operators(evidence)
        tensors: list[Recorded] = []
        lengths: dict[str, int] = {}
        for key in groups:
            group = self._member(groups, key, "Group")
            values = None if group is None else self._member(group, "values", "Dataset")
            if group is None or values is None:
                raise CaptureError(
                    f"'/tensors/{key}' of '{self._path}' has no dataset 'values'", hint=LAYOUT_HINT
                )
            self._check_values(key, values)
            tensor = self._tensor(key, group.attrs, values)
            op = None if tensor.index is None else operators.get(tensor.index)
            tensors.append(_with_evidence(tensor, op))
            lengths[tensor.label] = len(values)
            self._datasets.append(values)
        run = evidence.get("run")
        count = count_samples(self._path, lengths)
        return Contents(tuple(tensors), count, run if isinstance(run, dict) else {}, self)

    def _check_format(self) -> None:
        """Check the format that a file states; a file may also state none."""
        found = _text(self._file.attrs.get("format", FORMAT))
        if found != FORMAT:
            raise CaptureError(
                f"'{self._path}' is an HDF5 file of format {found!r}, expected {FORMAT!r}",
                hint=LAYOUT_HINT,
            )
        check_version(self._path, self._file.attrs.get("format_version", READABLE[-1]))

    def _member(self, group: Any, key: str, kind: str) -> Any:
        """Return a member stored in this file, or None if there is none of that kind."""
        import h5py

        link = group.get(key, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise CaptureError(
                f"'{group.name}/{key}' of '{self._path}' is a link; only what the file itself "
                "holds is read",
                hint="copy what it points to into the file",
            )
        found = group[key]
        return found if isinstance(found, getattr(h5py, kind)) else None

    def _check_values(self, key: str, values: Any) -> None:
        if values.dtype.kind not in "biuf" or not values.ndim:
            raise CaptureError(
                f"the values of '/tensors/{key}' in '{self._path}' are {values.dtype} of shape "
                f"{values.shape}, expected numbers of shape (samples, ...)",
                hint=LAYOUT_HINT,
            )

    def _tensor(self, key: str, attributes: Any, values: Any) -> Recorded:
        scale, zero_point = self._parameters(key, attributes)
        name, kind = _text(attributes.get("name")), _text(attributes.get("kind"))
        index = int(key) if key.isdecimal() else None
        inputs = attributes.get("inputs")
        return Recorded(
            number=len(self._datasets),
            index=index,
            name=name if name or index is not None else key,
            type=stored_type(values.dtype, _text(attributes.get("type"))),
            shape=tuple(values.shape[1:]),
            scale=scale,
            zero_point=zero_point,
            operator=_whole(attributes.get("operator")),
            kind=kind or None,
            reads=None if inputs is None else tuple(int(i) for i in np.ravel(inputs)),
        )

    def _parameters(self, key: str, attributes: Any) -> tuple[float | None, int | None]:
        if "scale" not in attributes:
            return None, None
        scale, zero_point = np.ravel(attributes["scale"]), np.ravel(attributes.get("zero_point", 0))
        if scale.size == 0 and zero_point.size == 0:
            return None, None
        if scale.size != 1 or zero_point.size != 1 or not 0 < float(scale[0]) < math.inf:
            raise CaptureError(
                f"'/tensors/{key}' of '{self._path}' has scale {scale} and zero point "
                f"{zero_point}, expected one positive scale and one zero point",
                hint="leave both out where a tensor has no single scale, and store real units",
            )
        return float(scale[0]), int(zero_point[0])

    def _evidence(self) -> Mapping[str, Any]:
        """Return the parsed ``/evidence``, empty if there is none."""
        dataset = self._member(self._file, "evidence", "Dataset")
        plain = {} if dataset is None else guard.parse_json(dataset.asstr()[()])
        return plain if isinstance(plain, dict) else {}


def _operators(evidence: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return the operator of each written tensor as ``/evidence`` describes it."""
    ops = evidence.get("ops")
    found = [op for op in ops if isinstance(op, dict)] if isinstance(ops, list) else []
    return {op["tensor"]: op for op in found if isinstance(op.get("tensor"), int)}


def _with_evidence(tensor: Recorded, op: Mapping[str, Any] | None) -> Recorded:
    """Add the facts that a recording by tfldbg holds about the operator that writes a tensor."""
    if op is None:
        return tensor
    bound = op.get("bound")
    bound = bound if isinstance(bound, dict) else {}
    reads, rule = op.get("reads"), bound.get("rule")
    if tensor.reads is None and isinstance(reads, list):
        tensor = replace(tensor, reads=tuple(int(i) for i in reads))
    return replace(
        tensor,
        activation=op.get("activation") is not False,
        rule=rule if isinstance(rule, str) else None,
        extra_lsb=tuple(float(lsb) for lsb in bound.get("extra_lsb", ())),
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
