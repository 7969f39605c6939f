"""What a trace measures besides the verdict: one folder for each measurement.

A folder holds a `tfldbg.measures.measurement.Measurement`, how it is computed and how it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.measures.accuracy.measurement import Accuracy
from tfldbg.measures.compounding.measurement import Compounding
from tfldbg.measures.histograms.measurement import Histograms
from tfldbg.measures.own.measurement import Own
from tfldbg.measures.pictures.measurement import Pictures
from tfldbg.measures.steps.measurement import Steps
from tfldbg.measures.worst.measurement import Worst

if TYPE_CHECKING:
    from tfldbg.measures.measurement import Measurement

MEASUREMENTS: tuple[Measurement, ...] = (
    Accuracy(),
    Histograms(),
    Own(),
    Worst(),
    Steps(),
    Compounding(),
    Pictures(),
)
"""In the order in which reports show them."""
