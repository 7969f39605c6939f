"""The layout of a recorded run, version 1.

::

    /                    attributes: format = "tfldbg.run", format_version = 1, created (ISO 8601)
    /evidence            scalar string, JSON: run, inputs and ops, everything but the values
    /tensors/NNNNN       one group per tensor, NNNNN its index in the user's file
        attributes       name, type, operator (-1 for inputs), kind, scale and zero_point (absent
                         for tensors without a single scale), reference and match_rule (absent for
                         unmatched tensors), local and accumulated (JSON statistics, if measured)
                         values           (N, ...) TFLite's values: codes if the tensor is quantized
                         reference        (N, ...) float32, the free-running reference, if matched
        local_reference  (N, ...) float32, the reference's operator on TFLite's own inputs, clamped
                         to the tensor's range, if it could be computed
        local_channels, accumulated_channels
                         (channels, figures) float64, the statistics along the last axis; the
                         attribute columns names the figures
        local_histogram, accumulated_histogram
                         (bins,) int64, if measured and the tensor is quantized: counts of the
                         signed errors; the attribute edges_lsb holds the edges between the bins

``(values - zero_point) * scale`` are the real values of the tensor.

History: 1 (0.1.0) first version.
"""

from __future__ import annotations

FORMAT = "tfldbg.run"
FORMAT_VERSION = 1
EVIDENCE = "evidence"
TENSORS = "tensors"
VALUES = "values"
REFERENCE = "reference"
LOCAL_REFERENCE = "local_reference"
LOCAL_CHANNELS = "local_channels"
ACCUMULATED_CHANNELS = "accumulated_channels"
HISTOGRAM = "{}_histogram"


def tensor_path(index: int) -> str:
    """Return the group of a tensor."""
    return f"{TENSORS}/{index:05d}"
