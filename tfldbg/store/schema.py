"""The layout of a recorded run, version 2.

::

    /                    attributes: format = "tfldbg.run", format_version = 2, created (ISO 8601)
    /evidence            scalar string, JSON: run, inputs and ops, everything but the values
    /tensors/NNNNN       one group per tensor, NNNNN its index in the user's file
        attributes       name, type, operator (-1 for inputs), kind, scale and zero_point (absent
                         for tensors without a single scale), reference and match_rule (absent for
                         unmatched tensors), local and accumulated (JSON statistics, if measured)
                         values           (N, ...) TFLite's values: codes if the tensor is quantized
        accumulated_error
                         (N, ...) float16, LSB: TFLite's values minus those of the free-running
                         reference, if matched, for tensors with codes of 8 bits
        local_error      (N, ...) float16, LSB: TFLite's values minus those of the reference's
                         operator on TFLite's own inputs, clamped to the tensor's range, if it could
                         be computed, for tensors with codes of 8 bits
        reference, local_reference
                         (N, ...) float32, the reference's values themselves, for other tensors, or
                         for all if asked for
        local_channels, accumulated_channels
                         (channels, figures) float64, the statistics along the last axis; the
                         attribute columns names the figures
        local_histogram, accumulated_histogram
                         (bins,) int64, if measured and the tensor is quantized: counts of the
                         signed errors; the attribute edges_lsb holds the edges between the bins

``(values - zero_point) * scale`` are the real values of the tensor.  Errors are rounded to 1/1024
LSB, and to float16; those of more than 65504 LSB are infinite.

History: 2 errors of 8-bit tensors in float16.  1 (0.1.0) first version.
"""

from __future__ import annotations

from tfldbg.reference.capture_hdf5 import FORMAT as FORMAT
from tfldbg.reference.capture_hdf5 import READABLE

FORMAT_VERSION = READABLE[-1]
EVIDENCE = "evidence"
TENSORS = "tensors"
VALUES = "values"
REFERENCE = "reference"
LOCAL_REFERENCE = "local_reference"
ACCUMULATED_ERROR = "accumulated_error"
LOCAL_ERROR = "local_error"
LOCAL_CHANNELS = "local_channels"
ACCUMULATED_CHANNELS = "accumulated_channels"
HISTOGRAM = "{}_histogram"


def tensor_path(index: int) -> str:
    """Return the group of a tensor."""
    return f"{TENSORS}/{index:05d}"
