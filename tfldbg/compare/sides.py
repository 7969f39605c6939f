"""What is compared with what, by name: the sides of final outputs, and the emulations."""

from __future__ import annotations

TFLITE, EMULATION, REFERENCE = "tflite", "emulation", "reference"
"""The traced file, its fake-quant emulation in float, and what it is compared with."""
SIDES = (REFERENCE, EMULATION, TFLITE)
PAIRS = ((TFLITE, REFERENCE), (EMULATION, REFERENCE), (TFLITE, EMULATION))
"""Which sides are compared, the second being what a relative error is relative to."""

EMULATED, FLOAT_RANGES, FAKE_QUANT_RANGES = "emulated", "float-ranges", "fake-quant-ranges"
EMULATIONS = (EMULATED, FLOAT_RANGES, FAKE_QUANT_RANGES)
"""References that round to codes as TFLite does: with the file's parameters, with those of a float
pass over the data, with those of a fake-quantized pass over it."""
