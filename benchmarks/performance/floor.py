"""The floors: what a trace must run, run once over the data, and nothing is looked at.

    python3 -m benchmarks.performance.floor TFLITE DATA.npy SAMPLES [--keras MODEL.h5 | --floats]

The untouched .tflite is invoked once a sample (LiteRT, XNNPACK, one thread).  Floor F of a trace
with Keras adds the Keras model in batches (`tf.function`), floor S of a self trace the float copy
of the file, invoked twice a sample (XNNPACK, one thread).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

_BATCH = 32


def run_tflite(path: Path, data: np.ndarray) -> None:
    """Invoke the file on every sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    scale, zero_point = given["quantization"]
    limits = np.iinfo(given["dtype"])
    for row in data:
        codes = np.clip(np.rint(row / scale) + zero_point, limits.min, limits.max)
        interpreter.set_tensor(given["index"], codes.astype(given["dtype"]).reshape(given["shape"]))
        interpreter.invoke()
        for output in interpreter.get_output_details():
            interpreter.get_tensor(output["index"])


def run_floats(path: Path, data: np.ndarray) -> None:
    """Invoke the float copy of the file twice on every sample."""
    from ai_edge_litert.interpreter import Interpreter

    from tfldbg.graph.load import load_graph
    from tfldbg.rewrite.twin import FLOAT, twins

    graph = load_graph(path.read_bytes(), str(path))
    copy = twins(graph, graph.main, (FLOAT,), {}, frozenset(graph.main.outputs), {})
    interpreter = Interpreter(model_content=bytes(copy.content), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    for row in data:
        interpreter.set_tensor(given["index"], row.reshape(given["shape"]).astype(given["dtype"]))
        for _ in range(2):
            interpreter.invoke()


def run_keras(path: Path, data: np.ndarray) -> None:
    """Run the model on every sample, in batches."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    with tfmot.quantization.keras.quantize_scope():
        model = tf_keras.models.load_model(path, compile=False)
    forward = tf.function(lambda x: model(x, training=False))
    for start in range(0, len(data), _BATCH):
        forward(tf.constant(data[start : start + _BATCH])).numpy()


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tflite", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("samples", type=int)
    parser.add_argument("--keras", type=Path)
    parser.add_argument("--floats", action="store_true")
    given = parser.parse_args()
    data = np.load(given.data, mmap_mode="r")[: given.samples]
    run_tflite(given.tflite, data)
    if given.floats:
        run_floats(given.tflite, data)
    if given.keras is not None:
        run_keras(given.keras, data)


if __name__ == "__main__":
    main()
