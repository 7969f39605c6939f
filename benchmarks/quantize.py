"""Quantize float .tflite files by every recipe of litert-quantizer, which is all it needs.

Run by `benchmarks.recipes` under a Python of its own, since the product does not depend on it:

    python quantize.py FOLDER NAME...    # FOLDER/NAME.tflite, NAME.npz -> FOLDER/NAME/RECIPE.tflite
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

FAILED = "failed.json"
"""By recipe what the quantizer said where it made no file."""
_ALGORITHMS = ("OCTAV", "MSE", "GPTQ", "OSCAR", "HADAMARD_ROTATION")
"""Algorithms that a recipe takes in place of the default one."""
_BASES = ("dynamic_wi8c_afp32", "dynamic_wi4c_afp32")
"""Recipes that are run with each of them."""


def recipes() -> Iterator[tuple[str, Any]]:
    """Yield name and content of everything that the package ships: functions, then files."""
    from litert_quantizer import algorithm_manager, recipe

    for name, make in vars(recipe).items():
        if (
            callable(make)
            and not name.startswith("_")
            and getattr(make, "__module__", "") == (recipe.__name__)
        ):
            yield name, make()
    for name in _BASES:
        for algorithm in _ALGORITHMS:
            key = algorithm_manager.AlgorithmName[algorithm]
            yield f"{name}+{algorithm.lower()}", getattr(recipe, name)(algorithm_key=key)
    for file in sorted(resources.files("litert_quantizer").joinpath("recipes").iterdir(), key=str):
        yield file.name, json.loads(file.read_text())


def _for_one_model(recipe: Any) -> Any:
    """Return the last part, the decoder's, of a recipe that has one for each model of a bundle."""
    return list(recipe.values())[-1] if isinstance(recipe, dict) else recipe


def quantize(model: Path, data: Path, recipe: Any) -> bytes:
    """Quantize a file, calibrated on the data where the recipe wants that."""
    from litert_quantizer import quantizer
    from litert_quantizer.utils import tfl_interpreter_utils

    made = quantizer.Quantizer(str(model))
    made.load_quantization_recipe(recipe)
    result = None
    if made.need_calibration:
        with np.load(data) as archive:
            arrays = {key: archive[key] for key in archive.files}
        count = len(next(iter(arrays.values())))
        rows = [{k: a[i : i + 1] for k, a in arrays.items()} for i in range(count)]
        interpreter = tfl_interpreter_utils.create_tfl_interpreter(str(model))
        keys = list(interpreter.get_signature_list()) or [None]
        result = made.calibrate({keys[0]: rows})
    return bytes(made.quantize(result).quantized_model)


def _made(model: Path, recipe: Any, target: Path) -> str | None:
    """Write a quantized file; return what the quantizer said where it made none."""
    try:
        files = model.with_name(f"{model.name}.tflite"), model.with_name(f"{model.name}.npz")
        target.write_bytes(quantize(*files, recipe))
    except Exception as error:  # whatever it raises is what the table shows
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return None


def main() -> None:
    """Quantize each named file by each recipe."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        target, failed = folder / name, {}
        target.mkdir(exist_ok=True)
        for recipe, content in recipes():
            said = _made(folder / name, _for_one_model(content), target / f"{recipe}.tflite")
            failed.update({} if said is None else {recipe: said})
        (target / FAILED).write_text(json.dumps(failed, indent=1))
        print(name, len(list(target.glob("*.tflite"))), "made,", len(failed), "failed", flush=True)


if __name__ == "__main__":
    main()
