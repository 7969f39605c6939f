"""Recorded tensors as a reference, computed by another device, runtime or delegate, or earlier.

Two formats are read: HDF5 in the layout of ``docs/recording.md``, for which a group per tensor with
a dataset ``values`` is enough, and ``.npz`` with one array per tensor, keyed by the tensor's name.
In both, the first axis is samples.

The files are not trusted: nothing in them is executed (no pickles), nothing outside them is read
(no links to other files), and values are read by ranges of samples.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import CaptureError
from tfldbg.reference.capture_hdf5 import open_hdf5
from tfldbg.reference.capture_npz import open_npz
from tfldbg.reference.recorded import Contents, Recorded

__all__ = ["Capture", "Recorded", "in_real_units", "open_capture"]


class Capture:
    """An open recording.  Use as a context manager, or call `close`.

    It can be pickled; the file goes with it, as an array that maps it.

    Args:
        path: The file.
        contents: The contents of the file.
    """

    def __init__(self, path: str, contents: Contents) -> None:
        self.path, self.tensors, self.samples = path, contents.tensors, contents.samples
        self._run, self._values = contents.run, contents.values
        self._range = (0, 0)
        self._held: dict[int, NDArray[Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to open it in another process: the same file, whatever its path names now."""
        opened = f"/proc/{os.getpid()}/fd/{self._values.descriptor()}"
        path = opened if Path(opened).exists() else self.path
        return _reopened, (self.path, np.memmap(path, np.uint8, "r"))

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def said(self, key: str) -> str:
        """Return a text that the recording states about its run, or an empty one."""
        found = self._run.get(key)
        return found if isinstance(found, str) else ""

    @property
    def stream_steps(self) -> int | None:
        """The number of samples that form one stream, or None if it is not recorded."""
        found = self._run.get("stream_steps", 1 if self._run else None)
        return found if isinstance(found, int) else None

    def stored(self, tensor: Recorded, start: int, stop: int) -> NDArray[Any]:
        """Return samples ``start`` to ``stop`` of one tensor as they are stored: (n, ...).

        The last range is kept, because reading backwards in a compressed archive unpacks it again.

        Raises:
            CaptureError: The file is damaged.
        """
        if (start, stop) != self._range:
            self._range, self._held = (start, stop), {}
        if tensor.number not in self._held:
            self._held[tensor.number] = self._read(tensor, start, stop)
        return self._held[tensor.number]

    def _read(self, tensor: Recorded, start: int, stop: int) -> NDArray[Any]:
        values = self._values.read(tensor.number, start, stop)
        if values.shape != (stop - start, *tensor.shape):
            raise CaptureError(
                f"'{self.path}' is damaged: samples {start} to {stop} of '{tensor.label}' have "
                f"shape {values.shape}, expected {(stop - start, *tensor.shape)}",
                hint="record it again",
            )
        return values

    def real(self, tensor: Recorded, start: int, stop: int) -> NDArray[np.float32]:
        """Return samples ``start`` to ``stop`` of one tensor in real units: (n, ...) float32.

        Integers without a scale are not scaled.
        """
        return in_real_units(tensor, self.stored(tensor, start, stop))

    def close(self) -> None:
        """Close the file."""
        self._values.close()


def in_real_units(tensor: Recorded, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored values (n, ...) in real units, float32."""
    affine = tensor.affine
    return values.astype(np.float32) if affine is None else affine.dequantize(values)


def open_capture(path: Path) -> Capture:
    """Open a recording.

    Args:
        path: An HDF5 file or an ``.npz``.

    Raises:
        CaptureError: The file is missing, damaged or not a recording.
    """
    if not path.is_file():
        raise CaptureError(f"the recording '{path}' does not exist", hint="check the path")
    return _opened(path, path)


def _opened(path: Path, source: Path | BinaryIO) -> Capture:
    zipped = path.suffix.lower() == ".npz"
    return Capture(str(path), open_npz(path, source) if zipped else open_hdf5(path, source))


def _reopened(path: str, content: NDArray[np.uint8]) -> Capture:
    """Open the file that an array maps, or the array itself if it has become a copy."""
    name = getattr(content, "filename", None)
    kept = BytesIO(content.tobytes()) if name is None else Path(name).open("rb")  # noqa: SIM115
    return _opened(Path(path), kept)
