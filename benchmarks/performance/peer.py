"""What people use today, over some samples of data, as a process of its own.

    python3 -m benchmarks.performance.peer prepare|naive|debugger|quantizer FOLDER NAME [SAMPLES]

naive      every layer's output of the Keras model in one prediction, every tensor of the .tflite
           kept by the interpreter, a comparison in NumPy of those that have the same shape
debugger   TensorFlow's QuantizationDebugger, on a debug model made from the float network
quantizer  `model_validator.compare_model` of ai-edge-quantizer: the QAT model's
           float .tflite and the quantized one
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.performance.models import SIZES, Pair, pair

_CALIBRATED = 8
"""Samples that the debug model is calibrated with."""


def prepared(made: Pair, what: str) -> Path:
    """Return where a file that a peer needs lies."""
    return made.data.with_name(f"{made.name}_{what}.tflite")


def prepare(made: Pair, samples: int) -> None:
    """Make the files that the peers need, unless they are there."""
    import tensorflow as tf

    del samples
    float_file, debug_file = prepared(made, "float"), prepared(made, "debug")
    if float_file.exists() and debug_file.exists():
        return
    float_file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(_loaded(made)).convert())
    # Made from the QAT model it would hold nothing that is verified.
    network, size = SIZES[made.name]
    converter = tf.lite.TFLiteConverter.from_keras_model(networks.application(network, size))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _batches(made, _CALIBRATED)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: _batches(made, 1)
    )
    debug_file.write_bytes(debugger.get_debug_quantized_model())


def _loaded(made: Pair) -> Any:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    with tfmot.quantization.keras.quantize_scope():
        return tf_keras.models.load_model(made.keras, compile=False)


def naive(made: Pair, samples: int) -> None:
    """Compare as a script does that is written in an hour."""
    import tf_keras
    from ai_edge_litert.interpreter import Interpreter

    model = _loaded(made)
    data = np.load(made.data, mmap_mode="r")[:samples]
    several = tf_keras.Model(model.input, [layer.output for layer in model.layers])
    reference = several.predict(data, verbose=0)
    interpreter = Interpreter(
        str(made.tflite), num_threads=1, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    scale, zero_point = given["quantization"]
    errors: dict[str, list[float]] = {}
    for number, row in enumerate(data):
        codes = np.clip(np.rint(row / scale) + zero_point, -128, 127).astype(given["dtype"])
        interpreter.set_tensor(given["index"], codes.reshape(given["shape"]))
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            same = [r for r in reference if r.shape[1:] == tuple(detail["shape"][1:])]
            if not same:
                continue
            scale_of, zero = detail["quantization"]
            real = (interpreter.get_tensor(detail["index"]).astype(np.float32) - zero) * scale_of
            errors.setdefault(detail["name"], []).append(
                min(float(np.abs(real[0] - r[number]).mean()) for r in same)
            )


def debugger(made: Pair, samples: int) -> None:
    """Run TensorFlow's own debugger."""
    import tensorflow as tf

    tf.lite.experimental.QuantizationDebugger(
        quant_debug_model_path=str(prepared(made, "debug")),
        debug_dataset=lambda: _batches(made, samples),
    ).run()


def quantizer(made: Pair, samples: int) -> None:
    """Run the comparison of ai-edge-quantizer."""
    from ai_edge_quantizer import model_validator

    content = prepared(made, "float").read_bytes()
    name, key = _signature(content)
    rows = [{name: batch[0]} for batch in _batches(made, samples)]
    target = made.tflite.read_bytes()
    model_validator.compare_model(content, target, {key: rows}, num_threads=1)


def _signature(content: bytes) -> tuple[str, str]:
    """Return the name of the input and of the signature."""
    from ai_edge_litert.interpreter import Interpreter

    ((key, names),) = Interpreter(model_content=content).get_signature_list().items()
    return names["inputs"][0], key


def _batches(made: Pair, samples: int) -> Iterator[list[np.ndarray]]:
    for row in np.load(made.data, mmap_mode="r")[:samples]:
        yield [np.asarray(row)[None]]


PEERS: Mapping[str, Callable[[Pair, int], Any]] = {
    "naive": naive,
    "debugger": debugger,
    "quantizer": quantizer,
}


def main() -> None:
    """Run one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["prepare", *PEERS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("samples", type=int, nargs="?", default=1)
    given = parser.parse_args()
    run = {"prepare": prepare, **PEERS}[given.what]
    run(pair(given.name, given.folder), given.samples)


if __name__ == "__main__":
    main()
