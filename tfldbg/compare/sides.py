"""The names of the sides of final outputs, and the pairs that are compared."""

from __future__ import annotations

TFLITE, EMULATION, REFERENCE = "tflite", "emulation", "reference"
"""The traced file, its fake-quant emulation in float, and the reference."""
SIDES = (REFERENCE, EMULATION, TFLITE)
PAIRS = ((TFLITE, REFERENCE), (EMULATION, REFERENCE), (TFLITE, EMULATION))
"""The pairs of sides that are compared; relative errors are relative to the second."""
