"""Run a model that was made from the traced file, on the values that the traced file had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.graph.load import load_graph
from tfldbg.options.runtimes import Kernels
from tfldbg.rewrite.pieces import Computed, Pieces
from tfldbg.run.frames import Frames
from tfldbg.run.litert import Program, Runner

if TYPE_CHECKING:
    from tfldbg.rewrite.twin import Twins

FLOAT_KERNELS = Kernels("builtin")
"""The kernels that compute float copies: none of those that compute quantized ones by default."""


def derived_program(
    name: str, content: Pieces, taps: Sequence[int], kernels: Kernels = FLOAT_KERNELS
) -> Program:
    """Describe a derived model to the runtime.

    Args:
        name: How messages call it.
        content: The file, its flatbuffer being the first piece.
        taps: Its tensors to read, all of them outputs.
        kernels: Who computes it.
    """
    flatbuffer = content.parts[0]
    if isinstance(flatbuffer, Computed):
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
        carried: By number of an input the tensor that holds, after one step of a stream, what the
            input takes in the next.

    Raises:
        RunError: The runtime refuses the model or dies while loading it.
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
        self._runner = Runner(program)
        self._runner.__enter__()

    def run(
        self,
        codes: Mapping[int, NDArray[Any]],
        real: Mapping[int, NDArray[Any]],
        count: int,
        fresh: Sequence[bool] = (),
    ) -> list[NDArray[Any]]:
        """Run it on ``count`` samples; return (count, ...) for every tap.

        Args:
            codes: As for `sample_of`.
            real: As for `sample_of`.
            count: How many samples they hold.
            fresh: By sample whether its state is reset before it; empty for all of them.

        Raises:
            RunError: The runtime refuses a sample or dies.
        """
        frames = Frames[int](count)
        for number in range(count):
            sample = sample_of(self._program, self._feeds, codes, real, number)
            begins = not fresh or fresh[number]
            if not begins:
                for given, written in self._carried.items():
                    sample[given] = self._last[written].reshape(sample[given].shape)
            self._last = self._runner.run(sample, fresh=begins, lend=True)
            frames.add(dict(enumerate(self._last[: self._results])))
        return list(frames.stacked().values())

    def close(self) -> None:
        """End the child process."""
        self._runner.close()


def copy_runner(name: str, made: Twins, stack: ExitStack) -> DerivedRunner:
    """Start a twin; ``stack`` ends it.

    Raises:
        RunError: The runtime refuses it.
    """
    program = derived_program(f"the float copy of '{name}'", made.content, made.taps)
    runner = DerivedRunner(program, made.feeds, made.carried)
    stack.callback(runner.close)
    return runner
