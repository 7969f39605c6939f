"""The time steps of recurrent networks, found from the structure of a subgraph.

A converter writes a recurrence in three ways.  *Unrolled*: every step has an operator that reads
the same weights, and the operators of one step depend on those of the step before.  *Fused*: one
operator loops internally, and its output has a time axis.  *Looped*: a WHILE, whose body is a
separate subgraph (`tfldbg.rewrite.body`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tfldbg.graph.query import WEIGHTED

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph

FEWEST_STEPS = 3
"""Two consumers of the same weights may be two branches of a network; three in a row are a loop."""

_FUSED = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)
_EACH_ALIKE = frozenset(
    {
        "ADD",
        "DEQUANTIZE",
        "FULLY_CONNECTED",
        "LOGISTIC",
        "MUL",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "SOFTMAX",
        "SUB",
        "TANH",
    }
)
"""Operators that do not mix steps: they work along the last axis or on each value."""
_SEQUENCE_RANK = 3
"""Batch, time and units."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrence that is unrolled into steps."""

    weights: tuple[int, ...]
    """The constants that every step reads once."""
    steps: tuple[tuple[int, ...], ...]
    """The operators of each step, in execution order."""


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """A tensor that holds one value for every time step."""

    op: int
    tensor: int
    axis: int
    """The axis of the tensor that counts the steps."""


def sequences(subgraph: Subgraph) -> tuple[SequenceOutput, ...]:
    """Return the tensors that hold one value for every time step.

    These are the outputs of fused operators, and of operators after them that compute every step
    in the same way.
    """
    found: dict[int, SequenceOutput] = {}
    for op in subgraph.operators:
        axis = 0 if op.options.get("timeMajor") else 1
        if op.kind in _EACH_ALIKE:
            read = [found[i] for i in op.inputs if i in found]
            if not read or not _as_long(subgraph, op, read[0]):
                continue
            axis = read[0].axis
        elif op.kind not in _FUSED:
            continue
        for out in op.outputs:
            if out >= 0 and len(subgraph.tensors[out].shape) == _SEQUENCE_RANK:
                found[out] = SequenceOutput(op.index, out, axis)
    return tuple(found.values())


def _as_long(subgraph: Subgraph, op: Operator, given: SequenceOutput) -> bool:
    """Return whether an operator's output has as many steps as its input sequence."""
    before, after = (subgraph.tensors[i].shape for i in (given.tensor, op.outputs[0]))
    return len(before) == len(after) and before[:2] == after[:2]


def unrolled(subgraph: Subgraph) -> tuple[Recurrence, ...]:
    """Return the recurrences that are unrolled into steps.

    Weights belong to a recurrence if N >= 3 operators of one kind read them and each of these
    depends on the one before.  So do the input's weights, which the steps read in turn without
    depending on each other.  Consumer k of N belongs to step k; if the first steps lack a consumer,
    because the state is still zero there, the last consumer belongs to the last step.  Every other
    operator belongs to the latest step that it reads from, if another step has a similar operator:
    the operators after the last step belong to none.
    """
    behind = _dependencies(subgraph)
    groups = _consumers_of_weights(subgraph)
    recurrent = {w: ops for w, ops in groups.items() if _in_a_row(ops, behind)}
    found: list[Recurrence] = []
    taken: set[int] = set()
    for loop in _loops(recurrent, behind):
        core = {w: recurrent[w] for w in loop}
        inputs = {w: ops for w, ops in groups.items() if w not in recurrent}
        members = {**core, **_entering(inputs, core, behind)}
        labels = _labels(subgraph, _placed(members), taken)
        taken |= labels.keys()
        count = max(labels.values(), default=-1) + 1
        if count >= FEWEST_STEPS:
            steps = tuple(tuple(o for o, s in labels.items() if s == k) for k in range(count))
            found.append(Recurrence(tuple(members), steps))
    return tuple(found)


_ByWeights = Mapping[int, tuple[int, ...]]
_Look = tuple[object, ...]


def _dependencies(subgraph: Subgraph) -> list[int]:
    """Return for each operator a bit set of the operators that it depends on, with itself."""
    behind: list[int] = []
    for op in subgraph.operators:
        bits = 1 << op.index
        for index in op.inputs:
            producer = subgraph.producers.get(index)
            if producer is not None and producer.index < op.index:
                bits |= behind[producer.index]
        behind.append(bits)
    return behind


def _depends(op: int, other: int, behind: Sequence[int]) -> bool:
    return op != other and bool(behind[op] >> other & 1)


def _consumers_of_weights(subgraph: Subgraph) -> _ByWeights:
    """Return the operators that read each constant as weights, if several of one kind do.

    Tensors that share a buffer are one constant.
    """
    folded = subgraph.folded_constants
    found: dict[tuple[str, bool, int], list[int]] = {}
    names: dict[tuple[str, bool, int], int] = {}
    for op in subgraph.operators:
        slot = WEIGHTED[op.kind][1] if op.kind in WEIGHTED else -1
        index = op.inputs[slot] if 0 <= slot < len(op.inputs) else -1
        if index < 0 or not (subgraph.tensors[index].has_data or index in folded):
            continue
        stored = subgraph.tensors[index].has_data
        key = (op.kind, stored, subgraph.tensors[index].buffer if stored else index)
        found.setdefault(key, []).append(op.index)
        names.setdefault(key, index)
    enough = {k: tuple(ops) for k, ops in found.items() if len(ops) >= FEWEST_STEPS - 1}
    return {names[k]: ops for k, ops in enough.items()}


def _in_a_row(ops: Sequence[int], behind: Sequence[int]) -> bool:
    return all(_depends(b, a, behind) for a, b in pairwise(ops))


def _loops(recurrent: _ByWeights, behind: Sequence[int]) -> list[list[int]]:
    """Group the weights whose consumers depend on each other in both directions into loops."""
    loops: list[list[int]] = []
    for weights, ops in sorted(recurrent.items(), key=lambda item: item[1][0]):
        for loop in loops:
            other = recurrent[loop[0]]
            if _reaches(ops, other, behind) and _reaches(other, ops, behind):
                loop.append(weights)
                break
        else:
            loops.append([weights])
    return [loop for loop in loops if max(len(recurrent[w]) for w in loop) >= FEWEST_STEPS - 1]


def _reaches(ops: Sequence[int], others: Sequence[int], behind: Sequence[int]) -> bool:
    return any(_depends(b, a, behind) for a in ops for b in others)


def _entering(
    inputs: _ByWeights, core: _ByWeights, behind: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Return the weights whose consumers feed the loop in sequence, with these in that order.

    A consumer precedes another if more of the loop depends on it.
    """
    anchors = [op for ops in core.values() for op in ops]
    found = {}
    for weights, ops in inputs.items():
        fed = {op: sum(_depends(a, op, behind) for a in anchors) for op in ops}
        if len(set(fed.values())) == len(ops) and not _reaches(anchors, ops, behind):
            found[weights] = tuple(sorted(ops, key=lambda op: -fed[op]))
    return found


def _placed(members: _ByWeights) -> dict[int, int]:
    """Return the step of every consumer.

    Weights with one consumer fewer than the others have none in the first step, where it would read
    a state of zeros.
    """
    count = max(len(ops) for ops in members.values())
    return {
        op: step
        for ops in members.values()
        if len(ops) >= count - 1
        for step, op in enumerate(ops, count - len(ops))
    }


def _labels(subgraph: Subgraph, placed: Mapping[int, int], taken: set[int]) -> dict[int, int]:
    """Return the step of every operator that belongs to one."""
    producers = subgraph.producers
    latest: dict[int, int] = {}
    for op in subgraph.operators:
        sources = [producers[i].index for i in op.inputs if i in producers]
        steps = [latest[s] for s in sources if s in latest]
        steps += [placed[op.index]] if op.index in placed else []
        if steps:
            latest[op.index] = max(steps)
    return _with_likes(subgraph, latest, placed, taken)


def _with_likes(
    subgraph: Subgraph,
    latest: Mapping[int, int],
    placed: Mapping[int, int],
    taken: set[int],
) -> dict[int, int]:
    """Keep the operators that another step has as well, unless they follow one that is dropped.

    A step keeps no more operators of one look than some other step has.
    """
    looks = {o: _look(subgraph, subgraph.operators[o]) for o in latest}
    counts = Counter((looks[o], step) for o, step in latest.items())
    most = {look: _second(counts, look, latest.values()) for look in set(looks.values())}
    producers = subgraph.producers
    seen: Counter[tuple[_Look, int]] = Counter()
    kept: dict[int, int] = {}
    outside: set[int] = set()
    for op in subgraph.operators:
        if op.index not in latest:
            continue
        step = latest[op.index]
        left = any(i in producers and producers[i].index in outside for i in op.inputs)
        alike = seen[looks[op.index], step] < most[looks[op.index]] or op.index in placed
        if left or not alike or op.index in taken:
            outside.add(op.index)
            continue
        seen[looks[op.index], step] += 1
        kept[op.index] = step
    return kept


def _look(subgraph: Subgraph, op: Operator) -> _Look:
    """Return the properties that operators of different steps share: kind and shapes.

    The values of weights are not among them: a step with a damaged copy is still a step.
    """
    weights = op.inputs[WEIGHTED[op.kind][1]] if op.kind in WEIGHTED else -1
    shape = subgraph.tensors[weights].shape if weights >= 0 else ()
    return (op.kind, shape, tuple(subgraph.tensors[i].shape for i in op.outputs if i >= 0))


def _second(counts: Counter[tuple[_Look, int]], look: _Look, steps: Iterable[int]) -> int:
    """Return the second largest count of operators with this look among the steps."""
    found = sorted((counts.get((look, s), 0) for s in set(steps)), reverse=True)
    return found[1] if len(found) > 1 else 0
