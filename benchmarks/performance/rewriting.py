"""What exposing every tensor of a file costs: of a large one, and of ones with many operators.

    python3 -m benchmarks.performance.rewriting [--megabytes 500] [--repeat 5]

A large file is compared with copying it to the disk; whole processes, less what the same process
takes for a file of a few bytes.  Files of many operators are read and exposed in this process, and
compared with the shortest of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from benchmarks.performance.process import Cost, cost
from tfldbg.session import expose_model

OPERATORS = (100, 500, 2000)
_COPY = """
import os, shutil, sys
shutil.copyfile(sys.argv[1], sys.argv[2])
with open(sys.argv[2], "rb+") as copied:
    os.fsync(copied.fileno())
"""
"""To the disk, as tfldbg writes what it exposes."""
_BYTES_OF_A_FLOAT = 4


def chain(operators: int, elements: int = 8) -> bytes:
    """Return a float file of ADDs of a constant, one after the other.

    Args:
        operators: How many.
        elements: Of every tensor; the constant has as many.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs = 3, [graph]
    constant = schema.BufferT()
    constant.data = np.zeros(elements * _BYTES_OF_A_FLOAT, np.uint8)
    model.buffers = [schema.BufferT(), constant]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    model.operatorCodes = [code]
    graph.tensors = [_tensor(n, elements) for n in range(operators + 2)]
    graph.tensors[0].buffer = 1
    graph.operators = [_add(n) for n in range(1, operators + 1)]
    graph.inputs, graph.outputs = np.array([1]), np.array([operators + 1])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _tensor(number: int, elements: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.hasRank = f"t{number}", [1, elements], True
    return tensor


def _add(number: int) -> schema.OperatorT:
    """Return the operator that makes the tensor that follows a number."""
    made = schema.OperatorT()
    made.inputs, made.outputs = np.array([number, 0]), np.array([number + 1])
    made.builtinOptionsType = schema.BuiltinOptions.AddOptions
    made.builtinOptions = schema.AddOptionsT()
    return made


def _expose(source: Path) -> Cost:
    target = source.with_suffix(".exposed")
    return cost(["-m", "tfldbg", "expose", str(source), "--output", str(target)])


def _copy(source: Path) -> Cost:
    return cost(["-c", _COPY, str(source), str(source.with_suffix(".copy"))])


def _large(folder: Path, megabytes: int, repeat: int) -> None:
    """Compare exposing a large file with copying it."""
    large, small = folder / "large.tflite", folder / "small.tflite"
    large.write_bytes(chain(2, megabytes * 1_000_000 // _BYTES_OF_A_FLOAT))
    small.write_bytes(chain(2))

    def beyond(run: Callable[[Path], Cost]) -> Cost:
        of_large, of_small = run(large), run(small)
        seconds = of_large.seconds - of_small.seconds
        return Cost(seconds, of_large.cpu_seconds - of_small.cpu_seconds, of_large.peak_bytes)

    rounds = [(beyond(_expose), beyond(_copy)) for _ in range(repeat)]
    times = [exposed.seconds / copied.seconds for exposed, copied in rounds]
    memory = median(exposed.peak_bytes for exposed, _ in rounds) / large.stat().st_size
    print("| file | time, of copying it | private memory, of its size |")
    print("|---|---:|---:|")
    print(f"| {megabytes} MB | {median(times):.2f} | {memory:.2f} |", flush=True)


def _many(folder: Path, repeat: int) -> None:
    """Compare files of many operators."""
    print("\n| operators | time to expose, of the shortest | time an operator, of the shortest |")
    print("|---:|---:|---:|")
    files = {n: folder / f"{n}.tflite" for n in OPERATORS}
    for count, path in files.items():
        path.write_bytes(chain(count))
    rounds: list[dict[int, float]] = []
    for _ in range(repeat + 1):
        rounds.append({})
        for count, path in files.items():
            began = perf_counter()
            expose_model(path)
            rounds[-1][count] = perf_counter() - began
    del rounds[0]  # which imports what the others find
    for count in OPERATORS:
        times = median(r[count] / r[OPERATORS[0]] for r in rounds)
        print(f"| {count} | {times:.1f} | {times * OPERATORS[0] / count:.2f} |", flush=True)


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        _large(Path(place), given.megabytes, given.repeat)
        _many(Path(place), given.repeat)


if __name__ == "__main__":
    main()
