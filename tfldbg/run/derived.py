"""Run a model that was made from the traced file, on the values that the traced file had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.load import load_graph
from tfldbg.run.litert import Program, Runner

FLOAT_RUNTIME = "builtin"
"""The kernels that compute float copies: none of those that compute quantized ones by default."""


def derived_program(
    name: str, model_bytes: bytes, taps: Sequence[int], runtime: str = FLOAT_RUNTIME
) -> Program:
    """Describe a derived model to the runtime.

    Args:
        name: How messages call it.
        model_bytes: The file.
        taps: Its tensors to read, all of them outputs.
        runtime: The kernels.
    """
    subgraph = load_graph(model_bytes, name).main
    return Program(name, model_bytes, runtime, subgraph, tuple(taps))


def sample_of(
    program: Program,
    feeds: Sequence[int],
    codes: Mapping[int, NDArray[Any]],
    real: Mapping[int, NDArray[Any]],
    number: int,
) -> list[NDArray[Any]]:
    """Return the inputs of a derived model for one sample.

    Args:
        program: The derived model.
        feeds: For each of its inputs the tensor whose values it takes.
        codes: By tensor (n, ...) values in the tensor's own type.
        real: The same in real units, for the inputs that are float.
        number: Which sample of these.
    """
    sample = []
    for key, index in zip(feeds, program.subgraph.inputs, strict=True):
        tensor = program.subgraph.tensors[index]
        empty = key in codes and not codes[key].size  # which has no real units
        array = (real if tensor.type == "FLOAT32" and not empty else codes)[key][number]
        sample.append(array.reshape(tensor.shape) if array.size == tensor.elements else array)
    return sample


class DerivedRunner:
    """A derived model in a child process of its own.

    Args:
        program: The derived model.
        feeds: For each of its inputs the tensor whose values it takes.

    Raises:
        RunError: The runtime refuses the model or dies while loading it.
    """

    def __init__(self, program: Program, feeds: Sequence[int]) -> None:
        self._program, self._feeds = program, tuple(feeds)
        self._runner = Runner(program)
        self._runner.__enter__()

    def run(
        self, codes: Mapping[int, NDArray[Any]], real: Mapping[int, NDArray[Any]], count: int
    ) -> list[NDArray[Any]]:
        """Run it on ``count`` samples; return (count, ...) for every tap.

        Args:
            codes: As for `sample_of`.
            real: As for `sample_of`.
            count: How many samples they hold.

        Raises:
            RunError: The runtime refuses a sample or dies.
        """
        frames = [
            self._runner.run(sample_of(self._program, self._feeds, codes, real, i))
            for i in range(count)
        ]
        return [np.stack(column) for column in zip(*frames, strict=True)]

    def close(self) -> None:
        """End the child process."""
        self._runner.close()
