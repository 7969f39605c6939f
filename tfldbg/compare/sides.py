"""What is compared with what, by name: the sides of final outputs."""

from __future__ import annotations

TFLITE, EMULATION, REFERENCE = "tflite", "emulation", "reference"
"""The traced file, its fake-quant emulation in float, and what it is compared with."""
SIDES = (REFERENCE, EMULATION, TFLITE)
PAIRS = ((TFLITE, REFERENCE), (EMULATION, REFERENCE), (TFLITE, EMULATION))
"""Which sides are compared, the second being what a relative error is relative to."""
