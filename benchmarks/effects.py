"""Whether a fault changes anything: a sound and a broken file run side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfldbg import quant
from tfldbg.graph.model import Tensor
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import Job, prepare
from tfldbg.run.litert import Runner

SAMPLES = 4
FLOAT32_ROUNDING = 1e-6
"""Relative to a tensor's largest value: below it two float results count as equal."""

Values = Mapping[int, np.ndarray]
"""By tensor (samples, ...) in real units."""


def run_exposed(
    model: bytes, data: Mapping[str, np.ndarray], runtime: str = "xnnpack"
) -> tuple[Job, Values]:
    """Run a file with every operator output exposed.

    Returns:
        What was run, and by tensor its values (samples, ...) in real units.

    Raises:
        RunError: The runtime refuses the file.
    """
    job = prepare(model, RunOn(data=dict(data), samples=SAMPLES, runtime=runtime))
    rows = []
    with Runner(job.instrumented) as runner:
        for sample in range(job.samples.count):
            codes = job.samples.codes(sample)
            rows.append([np.array(a) for a in runner.run(codes)])
    tensors = job.subgraph.tensors
    columns = zip(*rows, strict=True)
    taps = zip(job.exposed.taps, columns, strict=True)
    return job, {tap: np.stack([_real(tensors[tap], a) for a in column]) for tap, column in taps}


def _real(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    params = tensor.quant
    if params is None or values.dtype.kind == "f" or not tensor.has_codes:
        return np.asarray(values, np.float64)
    real = quant.dequantize(values, params.scale, params.zero_point, params.axis)
    return np.asarray(real, np.float64)


def differs(sound: tuple[Job, Values], broken: tuple[Job, Values]) -> bool:
    """Whether any operator output differs in real units, each file read by its own parameters."""
    for tap, expected in sound[1].items():
        found = broken[1].get(tap)
        if found is None or found.shape != expected.shape:
            return True
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if not np.allclose(
            found, expected, rtol=0, atol=FLOAT32_ROUNDING * largest, equal_nan=True
        ):
            return True
    return False


def effect(sound: tuple[Job, Values], broken: tuple[Job, Values], tensor: int) -> float | None:
    """Largest change of a tensor in steps: of the larger scale, or of a float's largest value.

    Returns:
        None where the shape changed or a value is not finite.
    """
    expected, found = sound[1][tensor], broken[1].get(tensor)
    if found is None or expected.shape != found.shape or not np.isfinite(found).all():
        return None
    steps = [side[0].subgraph.tensors[tensor].lsb or 0.0 for side in (sound, broken)]
    step = max(steps) or float(np.abs(expected).max(initial=0.0)) or 1.0
    return round(float(np.abs(found - expected).max(initial=0.0)) / step, 4)
