"""Replay a file with and without single errors, and sum up what becomes of the final error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.compounding.shares import Doubles, Item, Shares
from tfldbg.run.derived import derived_program
from tfldbg.run.litert import Runner

if TYPE_CHECKING:
    from tfldbg.rewrite.replay import Replay

Arrays = Mapping[int, NDArray[Any]]
"""By tensor of the traced file the values of one sample, real units where it is real."""

MOST_OPERATORS = 100
"""What is measured on every sample; of more, those that matter most on the first one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One sample as TFLite and the reference had it."""

    feeds: Arrays
    """What the replay takes, for every tensor of its feeds."""
    actual: tuple[NDArray[Any], ...]
    """TFLite's final tensors."""
    free: tuple[NDArray[Any], ...]
    """The reference's."""
    charges: Mapping[Item, Arrays]
    """By item and tensor, the error that goes when the item makes none of its own."""


class Replaying:
    """A replay in a child process of its own, and the sums of what it says.

    Args:
        name: How messages call the file.
        replay: The model.
        stack: What to close in the end.

    Raises:
        RunError: The runtime refuses the model.
    """

    def __init__(self, name: str, replay: Replay, stack: ExitStack) -> None:
        self.replay = replay
        self.shares = Shares(len(replay.taps))
        self.dropped: frozenset[Item] = frozenset()
        """What is not measured, for there is too much of it."""
        self.infinite = False
        """Whether there were final values that are no numbers; they are left out."""
        self._program = derived_program(f"the replay of '{name}'", replay.content, replay.taps)
        self._numbers = {key: number for number, key in enumerate(replay.feeds)}
        self._runner = stack.enter_context(Runner(self._program))
        self._first = True

    def measure(self, sample: Sample) -> None:
        """Replay one sample with every error, and then without those of each item.

        Raises:
            RunError: The runtime refuses the values or dies.
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
        """Return what some errors change at the final tensors."""
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
