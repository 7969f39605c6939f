"""Single operators on whatever values they are given: the reference's, and the file's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tfldbg import quant
from tfldbg.compare.against_file import OPERATORS_NAME, shadow
from tfldbg.compare.stream import Batch
from tfldbg.graph.model import Graph, Subgraph
from tfldbg.graph.query import numpy_type
from tfldbg.match.model import Matching
from tfldbg.match.steps import own_steps
from tfldbg.reference.evaluate import Evaluator, Floats, Frozen, Segment
from tfldbg.rewrite.replay import as_float
from tfldbg.rewrite.twin import MOST_DIMENSIONS, LocalModel, Step
from tfldbg.run.derived import DerivedRunner, derived_program
from tfldbg.run.job import Job

Values = Mapping[int, Floats]
"""By tensor of the traced file (n, ...) in real units."""


class Operators(Protocol):
    """Operators that compute each output from given inputs."""

    def compute(self, values: Values) -> dict[int, Floats]:
        """Return what each operator makes of the values; outputs whose inputs are not there miss.

        Raises:
            TfldbgError: The values cannot be computed with.
        """


class KerasOperators:
    """The operators of a frozen Keras model, with its own weights.

    Args:
        frozen: The model.
        segments: By output tensor each operator cut out of it.
        stack: What to close in the end.

    Raises:
        KerasError: TensorFlow refuses the graph.
    """

    def __init__(self, frozen: Frozen, segments: Mapping[int, Segment], stack: ExitStack) -> None:
        self._keys = tuple(segments)
        own = [replace(segment, constants={}) for segment in segments.values()]
        self._evaluator = Evaluator(frozen, [], own)
        stack.callback(self._evaluator.close)

    def compute(self, values: Values) -> dict[int, Floats]:
        """Compute every operator."""
        taps = {key: values[key] for key in self._evaluator.tap_keys}
        _, computed = self._evaluator.run(None, taps)
        return dict(zip(self._keys, computed, strict=True))


class FileOperators:
    """Float copies of the operators of a .tflite file.

    Args:
        name: How messages call the file.
        model: The copies, their inputs in real units; None where there is none.
        aliases: Output of an operator that only changes how a value is stored, to its input.
        stack: What to close in the end.

    Raises:
        RunError: The runtime refuses the copies.
    """

    def __init__(
        self, name: str, model: LocalModel | None, aliases: Mapping[int, int], stack: ExitStack
    ) -> None:
        self._aliases, self._model = aliases, model
        self._runner: DerivedRunner | None = None
        if model is not None:
            program = derived_program(OPERATORS_NAME.format(name), model.model_bytes, model.taps)
            types = [program.subgraph.tensors[i] for i in program.subgraph.inputs]
            self._types = dict(zip(model.feeds, types, strict=True))
            self._runner = DerivedRunner(program, model.feeds)
            stack.callback(self._runner.close)

    @property
    def computed(self) -> frozenset[int]:
        """The tensors that `compute` returns."""
        return frozenset((*self._aliases, *(self._model.results if self._model else ())))

    def compute(self, values: Values) -> dict[int, Floats]:
        """Compute every operator."""
        found = {out: values[given] for out, given in self._aliases.items() if given in values}
        if self._runner is None or self._model is None:
            return found
        # Integers, such as the indices of a GATHER, are as exact in float32 as the batch has them.
        codes = {
            key: np.rint(values[key]).astype(numpy_type(tensor))
            for key, tensor in self._types.items()
            if tensor.type != "FLOAT32"
        }
        count = len(next(iter(values.values())))
        computed = self._runner.run(codes, values, count)
        for index, value in zip(self._model.results, computed, strict=True):
            found[index] = value.astype(np.float32, copy=False)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class OwnCopies:
    """The float copies of the traced file's operators, and what has none."""

    operators: FileOperators
    refused: Mapping[int, str]
    """By operator, why it has no float copy."""


def own_copies(job: Job, first: Batch, stack: ExitStack) -> OwnCopies:
    """Build the float copies of a file's own operators, their inputs in real units.

    Args:
        job: The file.
        first: Some samples of it.
        stack: What to close in the end.
    """
    subgraph = job.subgraph
    plan = own_steps(subgraph, frozenset(first.codes))
    blind = {
        op.index: plan.reasons[i]
        for op in subgraph.operators
        for i in op.outputs
        if i in plan.reasons
    }
    copies, refused = float_copies(
        job.loaded.path, job.loaded.graph, subgraph, plan.steps, plan.aliases, first, stack
    )
    return OwnCopies(copies, {**blind, **plan.refused, **refused})


def float_copies(
    name: str,
    graph: Graph,
    subgraph: Subgraph,
    steps: Sequence[Step],
    aliases: Mapping[int, int],
    first: Batch,
    stack: ExitStack,
) -> tuple[FileOperators, Mapping[int, str]]:
    """Build float copies that take real values; leave out what the runtime does not compute.

    Args:
        name: How messages call the reference file.
        graph: The reference file.
        subgraph: Its subgraph.
        steps: The operators to compute.
        aliases: As for `FileOperators`.
        first: Some samples of the traced file.
        stack: What to close in the end.

    Returns:
        The copies, and by operator of the reference file why it is left out.
    """
    taking_reals = [
        replace(step, feeds={i: as_float(t) for i, t in step.feeds.items()}) for step in steps
    ]
    built = shadow(name, graph, subgraph, taking_reals, first)
    return FileOperators(name, built.model, aliases, stack), built.refused


def fake_quant_ranges(subgraph: Subgraph, matching: Matching) -> dict[int, tuple[float, float]]:
    """Return by tensor the range of the fake-quant node that is its counterpart."""
    return {
        i: quant.real_range(subgraph.tensors[i].type, *match.expected)
        for i, match in matching.matches.items()
        if match.expected is not None and match.node != match.raw
        if len(subgraph.tensors[i].shape) <= MOST_DIMENSIONS
    }


def ranges_of(subgraph: Subgraph, values: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """Return by tensor of the traced file the range of its counterpart.

    Args:
        subgraph: The reference file's.
        values: By tensor of the traced file its counterpart.
    """
    tensors = {mine: subgraph.tensors[other] for mine, other in values.items()}
    return {
        mine: quant.real_range(tensor.type, tensor.lsb, tensor.zero_point)
        for mine, tensor in tensors.items()
        if tensor.lsb is not None and tensor.zero_point is not None
        if len(tensor.shape) <= MOST_DIMENSIONS
    }
