"""The interpreter of the installed TensorFlow."""

from __future__ import annotations

import warnings
from typing import Any

from tfldbg.reference.quiet import quiet
from tfldbg.run.engines.litert import InterpreterEngine, loaded_delegates


def open_tensorflow(request: dict[str, Any]) -> InterpreterEngine:
    """Load a model into TensorFlow's interpreter, with its default kernels."""
    with quiet():
        import tensorflow as tf

    def make() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warning that tf.lite moves to LiteRT
            return tf.lite.Interpreter(
                model_path=request["path"],
                num_threads=1,
                experimental_delegates=loaded_delegates(
                    request, tf.lite.experimental.load_delegate
                ),
            )

    return InterpreterEngine(make, request)
