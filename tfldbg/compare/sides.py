"""What is compared with what, by name: the sides of final outputs, and the emulations."""

from __future__ import annotations

from typing import Literal

TFLITE, EMULATION, REFERENCE = "tflite", "emulation", "reference"
"""The traced file, its fake-quant emulation in float, and what it is compared with."""
SIDES = (REFERENCE, EMULATION, TFLITE)
PAIRS = ((TFLITE, REFERENCE), (EMULATION, REFERENCE), (TFLITE, EMULATION))
"""Which sides are compared, the second being what a relative error is relative to."""

Emulation = Literal["emulated", "float-ranges", "fake-quant-ranges"]
EMULATIONS: tuple[Emulation, ...] = ("emulated", "float-ranges", "fake-quant-ranges")
"""References that round to codes as TFLite does: with the file's parameters, with those of a float
pass over the data, with those of a fake-quantized pass over it."""
EMULATED, FLOAT_RANGES, FAKE_QUANT_RANGES = EMULATIONS
ReferenceKind = Literal["self", "keras", "tflite", "capture", "runtime", Emulation, "none"]
"""How a file was compared; ``none``: a recording of the file alone."""
