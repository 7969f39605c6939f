"""What LiteRT's interpreter alone says of a file: no part of the product is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLES = 4
ROUNDING = 1e-4
"""Relative to a tensor's largest value: below it float results of another order of sums may lie."""


@dataclass(frozen=True)
class Ran:
    """What a file's operators yielded."""

    values: Mapping[int, np.ndarray]
    """By number of a tensor (samples, ...) in real units."""
    steps: Mapping[int, float]
    """The scales of the quantized ones."""
    outputs: Sequence[int]
    """The model's outputs."""

    @property
    def final(self) -> list[np.ndarray]:
        """The values of the model's outputs."""
        return [self.values[index] for index in self.outputs]


def run(content: bytes, data: Mapping[str, np.ndarray]) -> Ran:
    """Run a file with plain kernels."""
    interpreter = _interpreter(content)
    details = {d["index"]: d for d in interpreter.get_tensor_details() if d["name"]}
    written = _written(content)
    rows: dict[int, list[np.ndarray]] = {}
    for sample in range(SAMPLES):
        interpreter.reset_all_variables()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], _codes(given, _of(data, given), sample))
        interpreter.invoke()
        for index in sorted(written & set(details)):
            try:
                found = interpreter.get_tensor(index)
            except ValueError:  # what only a loop's body holds
                continue
            rows.setdefault(index, []).append(_real(details[index], found))
    scales = {i: details[i]["quantization_parameters"]["scales"] for i in rows}
    return Ran(
        {index: np.stack(found) for index, found in rows.items()},
        {index: float(found[0]) for index, found in scales.items() if len(found) == 1},
        [d["index"] for d in interpreter.get_output_details()],
    )


def runs_fast(content: bytes, data: Mapping[str, np.ndarray]) -> bool:
    """Whether the kernels that files are traced with, XNNPACK's, take a file too."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    try:
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], _codes(given, _of(data, given), 0))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return False
    return True


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def _written(content: bytes) -> set[int]:
    """Return the numbers of the tensors that operators write."""
    from sample_models.plant import File

    file = File(content)
    outputs = [file.op(number).outputs for number in range(file.count)]
    return {int(i) for written in outputs if written is not None for i in written}


def _of(data: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> np.ndarray:
    """Return the array of an input: the one of its name, or the only one."""
    named = [a for key, a in data.items() if key in given["name"]]
    return named[0] if named else next(iter(data.values()))


def _codes(given: Mapping[str, Any], array: np.ndarray, sample: int) -> np.ndarray:
    row = array[sample : sample + 1].reshape([1, *given["shape"][1:]])
    kind = given["dtype"]
    parameters = given["quantization_parameters"]
    if not len(parameters["scales"]) or not np.issubdtype(kind, np.integer):
        return row.astype(kind)
    limits = np.iinfo(kind)
    codes = np.round(row / parameters["scales"][0]) + parameters["zero_points"][0]
    return np.clip(codes, limits.min, limits.max).astype(kind)


def _real(detail: Mapping[str, Any], array: np.ndarray) -> np.ndarray:
    scales = detail["quantization_parameters"]["scales"]
    if len(scales) != 1 or array.dtype.kind == "f":
        return array.astype(np.float64)
    return (array.astype(np.float64) - detail["quantization_parameters"]["zero_points"][0]) * scales


def differs(sound: Ran, broken: Ran, tensors: Iterable[int]) -> bool:
    """Whether one of the tensors moves by more than rounding explains.

    Two correct kernels may round a quantized value to neighbouring codes, so one step says nothing.
    """
    for index in tensors:
        expected, found = sound.values[index], broken.values.get(index)
        if found is None or found.shape != expected.shape:
            return True
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        step = max(sound.steps.get(index, 0.0), broken.steps.get(index, 0.0))
        allowed = 1.01 * step if step else ROUNDING * largest
        if not np.allclose(found, expected, rtol=0, atol=allowed, equal_nan=True):
            return True
    return False


def least_sqnr(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float | None:
    """Return the signal-to-noise ratio of the worst output, dB; None where shapes do not pair.

    Files order several outputs as they like: of the arrays of its size the nearest is the one.
    """
    ratios = []
    for array in found:
        same = [e for e in expected if e.size == array.size]
        if not same:
            return None
        noise = min(float(np.mean((array.ravel() - e.ravel()) ** 2)) for e in same)
        power = float(np.mean(array**2))
        ratios.append(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))
    return round(min(ratios), 1) if ratios else None
