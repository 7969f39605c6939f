"""The fault campaign on Keras/.tflite pairs that others made and published.

    python3 -m benchmarks.third_party PAIRS --clones CLONES    # copy the listed files out of clones
    python3 -m benchmarks.third_party PAIRS --out third_party.jsonl
    python3 -m benchmarks.third_party PAIRS --out third_party.jsonl --table

``third_party.tsv`` lists each file with its repository, commit, path, licence and SHA-256; the
files themselves are not ours to keep.  ``PAIRS`` holds a folder a pair: a Keras file or a folder
``saved_model``, and the .tflite files that were made of it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tfldbg
from benchmarks import faults, tables, zoo
from benchmarks.matrix import third_hand
from benchmarks.records import read_records
from sample_models import plant
from tfldbg.run.job import load

LIST = Path(__file__).with_suffix(".tsv")
KERAS = (".h5", ".hdf5", ".keras")
HALF = "third_party"
SAMPLES = 8
OTHER_WEIGHTS = {
    "mlperf_ad01": "the weights are the same to 1e-7, 8 of 9 biases differ by 0.2 to 6.6 %",
    "mlperf_toycar": "as mlperf_ad01, whose Keras file it is under another name",
    "mlperf_kws_dscnn": "no constant is the same",
    "uraich_sine": "no constant is the same",
}
"""Pairs that were published together and do not belong together, and what LiteRT's interpreter,
Keras and a fresh conversion say of them (``--agreement``).  They are called diverged, which is
right, and no fault is planted in them."""


@dataclass(frozen=True)
class Listed:
    """One file of the list."""

    pair: str
    file: str
    repository: str
    commit: str
    path: str
    licence: str
    sha256: str


def listed() -> list[Listed]:
    """Read the list."""
    with LIST.open(newline="") as file:
        return [Listed(**row) for row in csv.DictReader(file, delimiter="\t")]


def collect(clones: Path, folder: Path) -> Iterator[str]:
    """Copy the listed files out of clones, ``OWNER+NAME``; yield what is missing or another."""
    for item in listed():
        target = folder / item.pair / item.file
        if not target.exists():
            clone = clones / item.repository.replace("/", "+")
            inner = clone / "repo" if (clone / "repo").is_dir() else clone
            command = ["git", "-C", str(inner), "show", f"{item.commit}:{item.path}"]
            found = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
            if found.returncode:
                yield f"{item.pair}/{item.file}: not in {clone}"
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(found.stdout)
        if hashlib.sha256(target.read_bytes()).hexdigest() != item.sha256:
            yield f"{item.pair}/{item.file}: not the file that was listed"


def pairs(folder: Path, only: Sequence[str]) -> Iterator[zoo.Pair]:
    """Yield every pair below a folder, with random data in the range of its input."""
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        keras = [p for p in sorted(place.iterdir()) if p.suffix in KERAS or p.name == "saved_model"]
        if not keras or (only and place.name not in only):
            continue
        files = sorted(place.glob("*.tflite"))
        known = [r for r in (_range_of(path) for path in files) if r is not None]
        for path in files:
            name = f"{place.name}/{path.stem}"
            data = _data(path, _range_of(path) or (known[0] if known else (0.0, 1.0)))
            yield zoo.Pair(name, keras[0], path, data, path)


def _range_of(path: Path) -> tuple[float, float] | None:
    """Return the real values that the first input can represent, None where it is float."""
    tensor = load(path).specs[0].tensor
    if tensor.lsb is None or tensor.zero_point is None:
        return None
    low, high = (-128, 127) if tensor.type == "INT8" else (0, 255)
    return (low - tensor.zero_point) * tensor.lsb, (high - tensor.zero_point) * tensor.lsb


def _data(path: Path, limits: tuple[float, float]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    found = {}
    for spec in load(path).specs:
        shape = (SAMPLES, *spec.tensor.shape[1:])
        found[spec.label] = generator.uniform(*limits, shape).astype(np.float32)
    return found


def scheme_of(path: Path) -> zoo.Scheme:
    """Return how a file is quantized."""
    tensors = load(path).graph.main.tensors
    operators = load(path).graph.main.operators
    written = {i for operator in operators for i in operator.outputs}
    if any(tensors[i].lsb is not None for i in written):
        return "ptq"
    types = {t.type for i, t in enumerate(tensors) if i not in written}
    if "FLOAT16" in types:
        return "float16"
    return "dynamic" if "INT8" in types else "float32"


def agreement(pair: zoo.Pair) -> float | None:
    """Return how near LiteRT's interpreter is to Keras, dB; nothing of the product is used."""
    content = pair.tflite.read_bytes()
    found = third_hand.run(content, pair.data).final
    given = [np.asarray(a)[: third_hand.SAMPLES] for a in pair.data.values()]
    return third_hand.least_sqnr(found, _computed(pair.keras, given))


def constants(pair: zoo.Pair) -> tuple[int, int]:
    """Return how many constants are those of a fresh float conversion, and how many there are.

    A constant is the same if no element is further away than one step of its scale, or a float's
    rounding: what another checkpoint holds is further away in most elements.
    """
    import tensorflow as tf

    if pair.keras.is_dir():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(pair.keras))
    else:
        converter = tf.lite.TFLiteConverter.from_keras_model(_loaded(pair.keras))
    fresh = [real for real, _ in _weights(bytes(converter.convert()))]
    found = [_is_among(real, step, fresh) for real, step in _weights(pair.tflite.read_bytes())]
    return sum(found), len(found)


def _is_among(real: np.ndarray, step: np.ndarray, fresh: Sequence[np.ndarray]) -> bool:
    allowed = np.maximum(1.01 * step, 1e-5 * np.abs(real).max())
    near = (np.abs(real - other) <= allowed for other in fresh if other.shape == real.shape)
    return any(bool(n.all()) for n in near)


def _weights(content: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the real values of each float or quantized constant, and the size of a step."""
    file = plant.File(content)
    for tensor in file.subgraph.tensors:
        data = file.model.buffers[tensor.buffer].data
        if data is None or tensor.type not in plant.NUMPY:
            continue
        values = np.frombuffer(bytes(data), plant.NUMPY[tensor.type]).astype(np.float64)
        values, given = values.reshape(tensor.shape), plant.scales(tensor)
        if given is None:
            if plant.NUMPY[tensor.type] in (np.float32, np.float16):
                yield values, np.zeros(1)
            continue
        shape = np.ones(values.ndim, int)
        shape[tensor.quantization.quantizedDimension if len(given) > 1 else 0] = len(given)
        step = given.astype(np.float64).reshape(shape)
        zero = np.asarray(tensor.quantization.zeroPoint).reshape(shape)
        yield (values - zero) * step, step


def _computed(keras: Path, given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what a Keras model yields, computed by Keras."""
    model = _loaded(keras)
    if keras.is_dir():
        answers = model.signatures["serving_default"](*_by_name(model, given))
        return [np.asarray(a) for a in answers.values()]
    shaped = [a.reshape(len(a), *i.shape[1:]) for a, i in zip(given, model.inputs, strict=True)]
    answers = model(shaped[0] if len(shaped) == 1 else shaped, training=False)
    return [np.asarray(a) for a in (answers if isinstance(answers, (list, tuple)) else [answers])]


def _by_name(model: Any, given: Sequence[np.ndarray]) -> list[Any]:
    import tensorflow as tf

    wanted = model.signatures["serving_default"].inputs[: len(given)]
    return [tf.reshape(a, [len(a), *w.shape[1:]]) for a, w in zip(given, wanted, strict=True)]


def _loaded(path: Path) -> Any:
    """Load a Keras file with the framework that wrote it."""
    if path.is_dir():
        import tensorflow as tf

        return tf.saved_model.load(str(path))
    import keras
    import tf_keras

    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception:
        return keras.models.load_model(path, compile=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.third_party")
    parser.add_argument("folder", type=Path, metavar="PAIRS", help="a folder for each pair")
    parser.add_argument("--clones", type=Path, help="copy the listed files out of git clones first")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="pairs")
    parser.add_argument("--kinds", nargs="+", default=[], metavar="KIND", help="kinds of fault")
    parser.add_argument("--most", type=int, default=2, help="operators for each kind and pair")
    parser.add_argument("--out", type=Path, default=Path("third_party.jsonl"))
    parser.add_argument("--table", action="store_true", help="print the tables of --out")
    parser.add_argument("--agreement", action="store_true", help="print what belongs together")
    return parser


def main() -> None:
    """Run the campaign on third-party pairs, or print its tables."""
    options = _parser().parse_args()
    if options.clones:
        for line in collect(options.clones, options.folder):
            print(line, file=sys.stderr)
    if options.table:
        told = [r for r in read_records(options.out) if r.network not in OTHER_WEIGHTS]
        print(tables.render(told))
        return
    kinds = tuple(options.kinds)
    plan = faults.Plan("keras", options.folder, options.out, options.most, "xnnpack", kinds)
    for pair in pairs(options.folder, options.only):
        if options.agreement:
            same, every = constants(pair)
            print(f"{pair.name}: {agreement(pair)} dB, {same} of {every} constants", flush=True)
            continue
        network = pair.name.split("/")[0]
        if network in OTHER_WEIGHTS:
            result = tfldbg.trace(pair.tflite, keras=pair.keras, data=pair.data)
            print(f"{pair.name}: {result.verdict}, as it must be diverged", flush=True)
            continue
        faults.run_pair(pair, network, scheme_of(pair.tflite), HALF, plan)
        print(pair.name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
