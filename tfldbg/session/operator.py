"""One operator output of a trace, with its recorded values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.diagnose.words import number, op_name
from tfldbg.errors import CaptureError
from tfldbg.store import schema
from tfldbg.store.reader import read_values

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import OpEvidence, Run
    from tfldbg.diagnose.model import Finding, Status

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TracedOperator:
    """One output of an operator.

    `codes`, `tflite`, `reference` and `local_reference` are read from the recording at each access,
    and their first axis is samples.  Each of them raises:

        CaptureError: The trace was not recorded, the recording is missing or holds another run, or
            it has no such values of this operator; the message tells the reason.
    """

    evidence: OpEvidence
    """All its measurements."""
    output: int
    """Its number among the operator's outputs."""
    status: Status
    findings: tuple[Finding, ...]
    """The findings about the operator."""
    run: Run
    recording: Path | None

    @property
    def op(self) -> int:
        """The operator's number in the file."""
        return self.evidence.op

    @property
    def kind(self) -> str:
        """The operator's kind, for example ``CONV_2D``."""
        return self.evidence.kind

    @property
    def tensor(self) -> str:
        """The name of the output tensor."""
        return self.evidence.name

    @property
    def tensor_index(self) -> int:
        """The index of the output tensor in the file."""
        return self.evidence.tensor

    @property
    def scale(self) -> float | None:
        """The real units of one code, None if the tensor is not quantized."""
        return self.evidence.scale

    @property
    def zero_point(self) -> int | None:
        """The code of 0, None if the tensor is not quantized."""
        return self.evidence.zero_point

    @property
    def local(self) -> TensorStats | None:
        """The local error, None if it could not be checked."""
        return self.evidence.local

    @property
    def accumulated(self) -> TensorStats | None:
        """The accumulated error, None if the reference does not compute the tensor."""
        return self.evidence.accumulated

    @property
    def codes(self) -> NDArray[Any]:
        """TFLite's values in the tensor's own type: codes if it is quantized."""
        found = self._recorded(schema.VALUES)
        return self._known(found, schema.VALUES, self._why_no_values())

    @property
    def tflite(self) -> Floats:
        """TFLite's values in real units: (N, ...) float32, to compare with `reference`."""
        codes, affine = self.codes, self.evidence.affine
        return codes.astype(np.float32) if affine is None else affine.dequantize(codes)

    @property
    def reference(self) -> Floats:
        """The values of the free-running reference: (N, ...) float32, real units.

        Those of 8-bit tensors are exact to 1/1024 LSB, or to float16 if the error is larger than 2
        LSB and no integer, and infinite where it is larger than 65504 LSB, unless the trace was
        recorded with ``dump_exact``.
        """
        names = (schema.REFERENCE, schema.ACCUMULATED_ERROR)
        return self._reference(*names, self._why_no_reference())

    @property
    def local_reference(self) -> Floats:
        """The results of the reference's operator on TFLite's inputs: (N, ...) float32, real units.

        They are clamped to the range of the tensor, and as exact as `reference`.
        """
        names = (schema.LOCAL_REFERENCE, schema.LOCAL_ERROR)
        return self._reference(*names, self.evidence.local_reason or "it is unchecked")

    def _reference(self, whole: str, errors: str, reason: str) -> Floats:
        found, affine = self._recorded(whole, errors, schema.VALUES), self.evidence.affine
        if errors not in found or affine is None:
            return self._known(found, whole, reason)
        steps: Floats = found[schema.VALUES].astype(np.float32)
        steps -= np.float32(affine.zero_point)
        steps -= found[errors]
        steps *= np.float32(affine.scale)
        return steps

    def _known(self, found: Mapping[str, NDArray[Any]], dataset: str, reason: str) -> NDArray[Any]:
        if dataset not in found:
            raise CaptureError(
                f"the recording has no {dataset} of {self._name}: {reason}",
                hint=f"its values are in the group {schema.tensor_path(self.tensor_index)} of "
                f"'{self.recording}'",
            )
        return found[dataset]

    def _recorded(self, *datasets: str) -> dict[str, NDArray[Any]]:
        if self.recording is None:
            raise CaptureError(
                f"there are no values of {self._name}: this result has no recording",
                hint="record one: tfldbg.trace(..., dump='run.h5')",
            )
        return read_values(self.recording, self.run, self.tensor_index, datasets)

    def _why_no_values(self) -> str:
        return self.evidence.local_reason or "its output holds no values"

    def _why_no_reference(self) -> str:
        if not self.run.traits.exists:
            return "it was recorded without a reference"
        return self.evidence.unmatched_reason or "the reference did not compute it"

    @property
    def _name(self) -> str:
        return op_name(self.op, self.kind, self.tensor)

    def __repr__(self) -> str:
        errors = [("local", self.local), ("accumulated", self.accumulated)]
        said = ", ".join(f"{name} {_size(stats)}" for name, stats in errors if stats is not None)
        return f"<{self._name} {self.status}: {said or 'no figures'}>"

    def _repr_html_(self) -> str:
        from tfldbg.report.notebook import operator_html

        return operator_html(self.evidence, self.status, self.findings)


def _size(stats: TensorStats) -> str:
    if stats.max_lsb is None:
        return f"{number(stats.max_abs)} max abs"
    return f"{number(stats.max_lsb)} LSB"
