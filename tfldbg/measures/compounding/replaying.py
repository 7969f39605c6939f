"""Replay a file with and without single errors, and sum up the effect on the final error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.measures.compounding.shares import Doubles, Item, Shares
from tfldbg.run.derived import derived_program
from tfldbg.run.litert import Runner

if TYPE_CHECKING:
    from tfldbg.rewrite.replay import Replay

Arrays = Mapping[int, NDArray[Any]]
"""The values of one sample by tensor of the traced file, in real units if the tensor is real."""

MOST_OPERATORS = 100
"""The number of operators measured on every sample; others are measured on the first one only."""


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedSample:
    """One sample as computed by TFLite and the reference."""

    feeds: Arrays
    """The inputs of the replay, for every tensor of its feeds."""
    actual: tuple[NDArray[Any], ...]
    """The final tensors of TFLite."""
    free: tuple[NDArray[Any], ...]
    """The final tensors of the reference."""
    charges: Mapping[Item, Arrays]
    """The error that an item adds, by item and tensor."""


class Replaying:
    """A replay in a separate child process, and the sums of its results.

    Args:
        name: The name of the file in messages.
        replay: The model.
        stack: Closes the runner at the end.

    Raises:
        RunError: The runtime refuses the model.
    """

    def __init__(self, name: str, replay: Replay, stack: ExitStack) -> None:
        self.replay = replay
        self.shares = Shares(len(replay.taps))
        self.dropped: frozenset[Item] = frozenset()
        """The items that are no longer measured, because there are too many."""
        self.infinite = False
        """True if any final values were not finite; they are left out."""
        self._program = derived_program(f"the replay of '{name}'", replay.content, replay.taps)
        self._numbers = {key: number for number, key in enumerate(replay.feeds)}
        self._runner = stack.enter_context(Runner(self._program))
        self._first = True

    def measure(self, sample: ReplayedSample) -> None:
        """Replay one sample with all errors, and then without those of each item.

        Raises:
            RunError: The runtime refuses the values or crashes.
        """
        whole = self._run(sample.feeds)
        free, actual = _doubles(sample.free), _doubles(sample.actual)
        error = [self._finite(a - f) for a, f in zip(actual, free, strict=True)]
        off = [self._finite(w - a) for w, a in zip(whole, actual, strict=True)]
        self.shares.begin(error, [self._finite(f) for f in free], off)
        for item, charged in sample.charges.items():
            if item in self.dropped:
                continue
            part = self._part(whole, sample.feeds, charged)
            self.shares.add(item, error, [self._finite(p) for p in part])
        if self._first:
            self._first = False
            self.dropped = self.shares.keep_largest(MOST_OPERATORS)

    def _part(self, whole: list[Doubles], feeds: Arrays, charged: Arrays) -> list[Doubles]:
        """Return the change at the final tensors that some errors cause."""
        changed = {
            key: feeds[key] - error
            for key, error in charged.items()
            if key in self._numbers and error.any()
        }
        if not changed:
            return [np.zeros_like(w) for w in whole]
        arrays = {self._numbers[key]: self._shaped(key, a) for key, a in changed.items()}
        without = _doubles(self._runner.rerun(arrays))
        return [w - o for w, o in zip(whole, without, strict=True)]

    def _run(self, feeds: Arrays) -> list[Doubles]:
        return _doubles(self._runner.run([self._shaped(key, feeds[key]) for key in self._numbers]))

    def _shaped(self, key: int, array: NDArray[Any]) -> NDArray[Any]:
        tensor = self._program.subgraph.tensors[self._program.subgraph.inputs[self._numbers[key]]]
        return array.reshape(tensor.shape) if array.size == tensor.elements else array

    def _finite(self, values: Doubles) -> Doubles:
        finite = np.isfinite(values)
        if finite.all():
            return values
        self.infinite = True
        return np.where(finite, values, 0.0)


def _doubles(arrays: Any) -> list[Doubles]:
    """Return flat float64 arrays; the two sides may shape a tensor differently."""
    return [np.asarray(a, np.float64).reshape(-1) for a in arrays]
