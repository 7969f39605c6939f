"""What a run costs before its first sample, as ratios to what it cannot do without.

    python3 -m benchmarks.performance.startup FOLDER [--repeat 5]

Each round runs every command once, so that all of them see the same machine; the ratios are those
of a round, their medians are printed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.performance.models import pair
from benchmarks.performance.process import cost
from tfldbg.reference.cache import FOLDER_VARIABLE

_LIBRARIES = "import numpy, h5py, rich, typer\nfrom ai_edge_litert.interpreter import Interpreter"
_KERAS = """
import sys
import numpy, tensorflow as tf, tf_keras, tensorflow_model_optimization as tfmot
with tfmot.quantization.keras.quantize_scope():
    model = tf_keras.models.load_model(sys.argv[1], compile=False)
forward = tf.function(lambda x: model(x, training=False))
forward(tf.zeros([1, *model.input_shape[1:]])).numpy()
"""


def _commands(folder: Path, name: str) -> Mapping[str, Sequence[str]]:
    made = pair(name, folder)
    trace = ["-m", "tfldbg", "trace", str(made.tflite), "--samples", "1", "--quiet"]
    with_keras = [*trace, "--keras", str(made.keras)]
    return {
        "libraries": ["-c", _LIBRARIES],
        "help": ["-m", "tfldbg", "--help"],
        "inspect": ["-m", "tfldbg", "inspect", str(made.tflite)],
        "trace": trace,
        "keras": ["-c", _KERAS, str(made.keras)],
        "cold": [*with_keras, "--no-cache"],
        "fill": with_keras,
        "warm": with_keras,
    }


_RATIOS = (
    ("`tfldbg --help`", "help", "libraries", 1.2),
    ("`tfldbg inspect MODEL.tflite`", "inspect", "libraries", 1.6),
    ("`tfldbg trace MODEL.tflite`, one sample", "trace", "libraries", 3.0),
    ("`... --keras QAT.h5 --no-cache`, one sample", "cold", "keras", 1.3),
    ("`... --keras QAT.h5`, one sample, cached", "warm", "keras", 0.5),
)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mobilenet_v2_96")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    commands = _commands(given.folder, given.model)
    rounds = []
    with tempfile.TemporaryDirectory() as place:
        os.environ[FOLDER_VARIABLE] = place
        for _ in range(given.repeat):
            rounds += [{what: cost(command).seconds for what, command in commands.items()}]
    print("| command | ratio | of | goal |")
    print("|---|---:|---|---:|")
    words = {
        "libraries": "importing NumPy, h5py, Rich, Typer and LiteRT",
        "keras": "importing TensorFlow, loading the .h5 and calling it once",
    }
    for words_of, what, base, goal in _RATIOS:
        ratio = median(r[what] / r[base] for r in rounds)
        print(f"| {words_of} | {ratio:.2f} | {words[base]} | {goal} |")


if __name__ == "__main__":
    main()
