"""Single operators on given values: the reference's, and the file's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tfldbg.compare.batch import Batch, Computed
from tfldbg.compare.copies import Shadow, shadow, started
from tfldbg.compare.keras_reference import KerasReference
from tfldbg.graph.query import SAME_SCALE_KINDS, numpy_type
from tfldbg.match.settle import same_parameters
from tfldbg.match.steps import own_steps
from tfldbg.quant import Affine
from tfldbg.reference.evaluate import Floats, Frozen, Segment
from tfldbg.reference.graphdef import FAKE_QUANT_OPS
from tfldbg.rewrite.emit import as_float
from tfldbg.rewrite.twin import MOST_DIMENSIONS, Computation

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.match.model import Match
    from tfldbg.run.job import Job, Loaded
    from tfldbg.run.litert import Runner

Values = Mapping[int, Floats]
"""The values (n, ...) by tensor of the traced file, in real units."""

COPYING_KINDS = SAME_SCALE_KINDS - {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}
"""Operators that select from the values they read and compute no new ones."""


class Counterpart(Protocol):
    """A reference that runs free, and operator by operator on any values."""

    ranges: Mapping[int, tuple[float, float]]
    """The range to which the reference clamps a tensor, such as a fake-quant node, by tensor."""
    own: bool
    """True if its operators are the traced file's own float copies."""

    def run(self, batch: Batch) -> Computed:
        """Run free, and run every operator on TFLite's values.

        Raises:
            TfldbgError: It cannot compute the data.
        """

    def run_again(self, batch: Batch, values: Values) -> Values:
        """Run every operator on other values; outputs without known inputs are left out."""


class KerasCounterpart:
    """A frozen Keras model, its operators with their own weights.

    Args:
        frozen: The model.
        relation: The relation to the traced file.
        segments: Each operator cut out of the model, by output tensor.
        job: The traced file.
        stack: Closes the reference at the end.

    Raises:
        KerasError: TensorFlow refuses the graph.
    """

    own = False

    def __init__(
        self,
        frozen: Frozen,
        relation: Relation,
        segments: Mapping[int, Segment],
        job: Job,
        stack: ExitStack,
    ) -> None:
        matches = {i: _as_read(frozen, m) for i, m in relation.matching.matches.items()}
        read = replace(relation, matching=replace(relation.matching, matches=matches))
        own_weights = {i: replace(segment, constants={}) for i, segment in segments.items()}
        self._reference = KerasReference(frozen, read, own_weights, job.samples)
        stack.callback(self._reference.close)
        self._owed = _rounded_behind(job.subgraph, matches)
        rounded = {i: m.expected for i, m in matches.items() if m.expected and m.node != m.raw}
        tensors = job.subgraph.tensors
        self.ranges: Mapping[int, tuple[float, float]] = {
            i: Affine(*parameters).real_range(tensors[i].type)
            for i, parameters in (rounded | self._owed).items()
            if len(tensors[i].shape) <= MOST_DIMENSIONS
        }
        self._tensors = tensors

    def run(self, batch: Batch) -> Computed:
        """Run free, and run every operator on TFLite's values."""
        computed = self._reference.compute(batch)
        rounded = {i: self._rounded(i, computed.free[i]) for i in self._owed if i in computed.free}
        return replace(computed, free={**computed.free, **rounded})

    def _rounded(self, index: int, values: Floats) -> Floats:
        affine = Affine(*self._owed[index])
        return affine.dequantize(affine.quantize(values, self._tensors[index].type))

    def run_again(self, batch: Batch, values: Values) -> Values:
        """Run every operator on other values."""
        return self._reference.compute(replace(batch, real=values)).local


def _as_read(frozen: Frozen, match: Match) -> Match:
    """Return a match with the value that the consumers in the reference have.

    If the file lacks a fake-quant node of the reference or has another one instead, the consumers
    in the reference still read the fake-quantized value.
    """
    if match.parameters not in ("bypassed", "differ"):
        return match
    nodes = frozen.graph.nodes
    quants = (n for n in match.chain if n in nodes and nodes[n].op in FAKE_QUANT_OPS)
    return replace(match, node=next(quants, match.node))


def _rounded_behind(
    subgraph: Subgraph, matches: Mapping[int, Match]
) -> dict[int, tuple[float, int]]:
    """Return the parameters with which the reference rounds a tensor after a copying operator.

    The converter quantizes the inputs of a CONCATENATION and not its output; rounding values before
    or after copying them gives the same.
    """
    found: dict[int, tuple[float, int]] = {}

    def rounds(op: Operator, tensor: Tensor) -> bool:
        match = matches.get(op.outputs[0])
        if op.kind not in COPYING_KINDS or match is None:
            return False
        expected = found.get(op.outputs[0]) or match.expected
        return expected is not None and same_parameters(tensor, expected)

    for op in reversed(subgraph.operators):
        for index in (i for i in op.outputs if i in matches):
            tensor, match = subgraph.tensors[index], matches[index]
            affine, reading = tensor.affine, subgraph.consumers.get(index, ())
            if match.node != match.raw or affine is None:
                continue
            if reading and all(rounds(consumer, tensor) for consumer in reading):
                found[index] = affine.scale, affine.zero_point
    return found


class FileCounterpart:
    """Float copies of a .tflite file's operators, and a reference that runs free.

    Args:
        reference: The free-running reference.
        operators: The float copies.
        own: True if they are those of the traced file itself.
        same: The tensors that the free-running reference takes from TFLite.
        ranges: The range of the reference's tensor, by tensor.
    """

    def __init__(
        self,
        reference: Reference,
        operators: FileOperators,
        *,
        own: bool,
        same: Collection[int] = (),
        ranges: Mapping[int, tuple[float, float]] | None = None,
    ) -> None:
        self._reference, self._operators, self._same = reference, operators, same
        self.own, self.ranges = own, ranges or {}

    def run(self, batch: Batch) -> Computed:
        """Run free, and run every operator on TFLite's values."""
        same = {i: batch.real[i] for i in self._same if i in batch.real}
        free = {**same, **self._reference.compute(batch).free}
        return Computed(free, self._operators.compute(batch.real))

    def run_again(self, batch: Batch, values: Values) -> Values:
        """Run every operator on other values."""
        del batch
        return self._operators.compute(values)


class FileOperators:
    """Float copies of the operators of a .tflite file.

    Args:
        built: The copies with inputs in real units.
        aliases: The input of each operator that only changes how a value is stored, by output.
        stack: Closes the runner at the end.

    Raises:
        RunError: The runtime refuses the copies.
    """

    def __init__(self, built: Shadow, aliases: Mapping[int, int], stack: ExitStack) -> None:
        self._aliases = aliases
        self._parts = started(built.parts)
        for _, runner in self._parts:
            stack.callback(runner.close)

    @property
    def computed(self) -> frozenset[int]:
        """The tensors that `compute` returns."""
        return frozenset((*self._aliases, *(i for results, _ in self._parts for i in results)))

    def compute(self, values: Values) -> dict[int, Floats]:
        """Compute every operator."""
        found = {out: values[given] for out, given in self._aliases.items() if given in values}
        count = len(next(iter(values.values())))
        for results, runner in self._parts:
            # Integers, such as the indices of a GATHER, are exact in float32 as the batch holds
            # them.
            codes = {
                key: np.rint(values[key]).astype(numpy_type(tensor))
                for key, tensor in runner.inputs.items()
                if tensor.type != "FLOAT32"
            }
            computed = runner.run(codes, values, count)
            for index, value in zip(results, computed, strict=True):
                found[index] = value.astype(np.float32, copy=False)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class OwnCopies:
    """The float copies of the traced file's operators, and the operators without one."""

    operators: FileOperators
    refused: Mapping[int, str]
    """The reason why an operator has no float copy, by operator."""


def own_copies(job: Job, first: Batch, stack: ExitStack) -> OwnCopies:
    """Build the float copies of a file's own operators, with inputs in real units.

    Args:
        job: The file.
        first: Some samples of the file.
        stack: Closes the runner at the end.
    """
    subgraph = job.subgraph
    plan = own_steps(subgraph, frozenset(first.codes))
    blind = {
        op.index: plan.reasons[i]
        for op in subgraph.operators
        for i in op.outputs
        if i in plan.reasons
    }
    copies, refused = file_operators(job.loaded, plan.steps, plan.aliases, first, stack)
    return OwnCopies(copies, {**blind, **plan.refused, **refused})


def file_operators(
    loaded: Loaded,
    steps: Sequence[Computation],
    aliases: Mapping[int, int],
    first: Batch,
    stack: ExitStack,
) -> tuple[FileOperators, Mapping[int, str]]:
    """Build float copies with inputs in real units, without those that the runtime refuses.

    Args:
        loaded: The reference file.
        steps: The operators to compute.
        aliases: As for `FileOperators`.
        first: Some samples of the traced file.
        stack: Closes the runner at the end.

    Returns:
        The copies, and the reason for each operator of the reference file that is left out.
    """
    taking_reals = [
        replace(step, feeds={i: as_float(t) for i, t in step.feeds.items()}) for step in steps
    ]
    built = shadow(loaded, taking_reals, first)
    return FileOperators(built, aliases, stack), built.refused


def ranges_of(subgraph: Subgraph, values: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """Return the range of the counterpart of each tensor of the traced file.

    Args:
        subgraph: The subgraph of the reference file.
        values: The counterpart of each tensor of the traced file.
    """
    tensors = {mine: subgraph.tensors[other] for mine, other in values.items()}
    return {
        mine: affine.real_range(tensor.type)
        for mine, tensor in tensors.items()
        if (affine := tensor.affine) is not None and len(tensor.shape) <= MOST_DIMENSIONS
    }


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both sides of a comparison that has run."""

    job: Job
    runner: Runner
    """The runner of the instrumented model."""
    first: Batch
    """The first sample alone."""
    reference: Reference
    relation: Relation
    copies: OwnCopies
    """The float copies of the traced file's own operators."""
