"""Record a model's tensors as many scripts do, with one of two classic mistakes.

    python sample_models/record.py cast  MODEL.tflite DATA.npz RUN.h5
    python sample_models/record.py stale MODEL.tflite DATA.npz RUN.h5

``cast`` casts the input to int8 instead of rounding it.  ``stale`` reads intermediate tensors with
``get_tensor`` after the run without having made them outputs, when their memory has been used
again.  ``tfldbg trace MODEL.tflite --against RUN.h5 --data DATA.npz`` tells which.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

SAMPLES = 16


def quantized(images: np.ndarray, given: dict, cast: bool) -> np.ndarray:
    """Return the images as codes (N, *shape of the input) int8."""
    scale, zero_point = given["quantization"]
    steps = images.reshape(-1, *given["shape"]) / scale + zero_point
    return np.clip(steps if cast else np.round(steps), -128, 127).astype(np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mistake", choices=("cast", "stale"))
    for name in ("model", "data", "run"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    interpreter = Interpreter(
        str(options.model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=options.mistake != "stale",
    )
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    tensors = [t for t in interpreter.get_tensor_details() if t["name"]]
    values = {t["index"]: [] for t in tensors}
    images = np.load(options.data)["x"][:SAMPLES]
    for codes in quantized(images, given, options.mistake == "cast"):
        interpreter.set_tensor(given["index"], codes)
        interpreter.invoke()
        for index, held in values.items():
            held.append(interpreter.get_tensor(index))
    with h5py.File(options.run, "w") as file:
        for tensor in tensors:
            group = file.create_group(f"tensors/{tensor['index']:05d}")
            group.attrs["name"] = tensor["name"]
            group["values"] = np.stack(values[tensor["index"]])


if __name__ == "__main__":
    main()
