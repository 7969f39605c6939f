"""What LiteRT's interpreter alone says of a file: no part of the product is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Values = Mapping[int, np.ndarray]
"""By number of a tensor (samples, ...) in real units."""
SAMPLES = 4
ROUNDING = 1e-6
"""Relative to a tensor's largest value: below it two float results count as equal."""


def values_of(content: bytes, data: Mapping[str, np.ndarray]) -> Values:
    """Run a file with plain kernels and return what every operator yields."""
    interpreter = _interpreter(content)
    details = {d["index"]: d for d in interpreter.get_tensor_details() if d["name"]}
    written = _written(content)
    rows: dict[int, list[np.ndarray]] = {}
    for sample in range(SAMPLES):
        interpreter.reset_all_variables()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], _codes(given, _of(data, given), sample))
        interpreter.invoke()
        for index in written & set(details):
            rows.setdefault(index, []).append(_real(details[index], interpreter.get_tensor(index)))
    return {index: np.stack(found) for index, found in rows.items()}


def outputs_of(content: bytes, values: Values) -> list[np.ndarray]:
    """Return the values of the model's outputs."""
    return [values[d["index"]] for d in _interpreter(content).get_output_details()]


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
    return {int(i) for op in range(file.count) for i in file.op(op).outputs}


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


def differs(sound: Values, broken: Values) -> bool:
    """Whether any operator's output differs in real units, each file read by its own parameters."""
    for index, expected in sound.items():
        found = broken.get(index)
        if found is None or found.shape != expected.shape:
            return True
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if not np.allclose(found, expected, rtol=0, atol=ROUNDING * largest, equal_nan=True):
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
