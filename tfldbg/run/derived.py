"""Run a model that was derived from the traced file on the values of the traced file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.load import load_graph
from tfldbg.options.runtimes import Kernels
from tfldbg.rewrite.pieces import ComputedBytes, Pieces
from tfldbg.run.frames import Frames
from tfldbg.run.litert import Program, Runner

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor
    from tfldbg.rewrite.twin import Twins

FLOAT_KERNELS = Kernels("builtin")
"""The kernels for float copies, which are not the default kernels for quantized models."""


def derived_program(
    name: str, content: Pieces, taps: Sequence[int], kernels: Kernels = FLOAT_KERNELS
) -> Program:
    """Return the program of a derived model.

    Args:
        name: The name of the model in messages.
        content: The file, with its flatbuffer as the first piece.
        taps: The tensors to read, all of them outputs.
        kernels: The kernels that compute it.
    """
    flatbuffer = content.parts[0]
    if isinstance(flatbuffer, ComputedBytes):
        raise TypeError("a file does not begin with a constant")
    subgraph = load_graph(flatbuffer, name, len(content)).main
    return Program(name, content, kernels, subgraph, tuple(taps))


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
        feeds: The tensor of the traced file for each input.
        codes: The values (n, ...) of each tensor in its own type.
        real: The same values in real units, for float inputs.
        number: The number of the sample among these.
    """
    sample = []
    for key, index in zip(feeds, program.subgraph.inputs, strict=True):
        tensor = program.subgraph.tensors[index]
        empty = key in codes and not codes[key].size  # which has no real units
        array = (real if tensor.type == "FLOAT32" and not empty else codes)[key][number]
        sample.append(array.reshape(tensor.shape) if array.size == tensor.elements else array)
    return sample


class DerivedRunner:
    """A derived model.

    It can be pickled; the copy loads the model when it first runs.

    Args:
        program: The derived model.
        feeds: The tensor of the traced file for each input.
        carried: The tensor whose value after a step of a stream is an input's value in the next
            step, by input number.

    Raises:
        RunError: The runtime refuses the model or crashes while loading it.
    """

    def __init__(
        self, program: Program, feeds: Sequence[int], carried: Mapping[int, int] | None = None
    ) -> None:
        self._results = len(program.taps)
        written = tuple(dict.fromkeys((carried or {}).values()))
        program = replace(program, taps=(*program.taps, *written))
        self._carried = {
            given: self._results + written.index(tensor)
            for given, tensor in (carried or {}).items()
        }
        self._last: list[NDArray[Any]] = []
        self._program, self._feeds = program, tuple(feeds)
        self._runner: Runner | None = None
        self._opened()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_runner": None, "_last": []}

    def _opened(self) -> Runner:
        if self._runner is None:
            self._runner = Runner(self._program).__enter__()
        return self._runner

    @property
    def inputs(self) -> dict[int, Tensor]:
        """The input of the derived model that each tensor of the traced file is given to."""
        subgraph = self._program.subgraph
        tensors = (subgraph.tensors[i] for i in subgraph.inputs)
        return dict(zip(self._feeds, tensors, strict=True))

    def run(
        self,
        codes: Mapping[int, NDArray[Any]],
        real: Mapping[int, NDArray[Any]],
        count: int,
        fresh: Sequence[bool] = (),
    ) -> list[NDArray[Any]]:
        """Run the model on ``count`` samples; return (count, ...) for every tap.

        In a process that runs the model itself, the next run overwrites the result of one sample.

        Args:
            codes: As for `sample_of`.
            real: As for `sample_of`.
            count: The number of samples.
            fresh: For each sample, True to reset the state before it; empty for all of them.

        Raises:
            RunError: The runtime refuses a sample or crashes.
        """
        if count == 1 and self._opened().lends:
            made = self._run_one(codes, real, 0, fresh)
            return [array[np.newaxis] for array in made]
        frames = Frames[int](count)
        for number in range(count):
            frames.add(dict(enumerate(self._run_one(codes, real, number, fresh))))
        return list(frames.stacked().values())

    def _run_one(
        self,
        codes: Mapping[int, NDArray[Any]],
        real: Mapping[int, NDArray[Any]],
        number: int,
        fresh: Sequence[bool],
    ) -> list[NDArray[Any]]:
        runner = self._opened()
        sample = sample_of(self._program, self._feeds, codes, real, number)
        begins = not fresh or fresh[number]
        if not begins:
            for given, written in self._carried.items():
                sample[given] = self._last[written].reshape(sample[given].shape)
        self._last = runner.run(sample, fresh=begins, lend=True)
        return self._last[: self._results]

    def close(self) -> None:
        """Release the model."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def copy_runner(name: str, made: Twins, kernels: Kernels = FLOAT_KERNELS) -> DerivedRunner:
    """Start a float copy of a whole file, which the caller closes.

    Raises:
        RunError: The runtime refuses it.
    """
    program = derived_program(f"the float copy of '{name}'", made.content, made.taps, kernels)
    return DerivedRunner(program, made.feeds, made.carried)
