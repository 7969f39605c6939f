"""Relate two .tflite files: pairs of operators, constants and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.compare.constants.files import Holder, compare_constants
from tfldbg.compare.constants.turned import HIDDEN, Turned, without_turns
from tfldbg.compare.relation import Relation
from tfldbg.errors import MatchError
from tfldbg.graph.query import LAYOUT_KINDS
from tfldbg.match.files import Index, Pair, pair_operators
from tfldbg.match.itself import counterpart
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.settle import same_parameters
from tfldbg.match.steps import aliases, given
from tfldbg.rewrite.twin import ALIASES, Computation, untwinned

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import WeightCheck
    from tfldbg.graph.model import Operator, Subgraph, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RelatedFiles:
    """Two related files."""

    relation: Relation
    steps: tuple[Computation, ...]
    """The operators of the reference, fed with the traced file's tensors."""
    aliases: Mapping[int, int]
    """The outputs of the traced file that hold the same values as another of its tensors."""
    values: Mapping[int, int]
    """The tensor of the reference with the same values, for each tensor of the traced file."""
    notes: tuple[str, ...]


def relate_files(
    traced: Holder,
    reference: Holder,
    numbers: Sequence[int],
    readable: frozenset[int],
    readable_reference: frozenset[int],
    states: Sequence[int] = (),
) -> RelatedFiles:
    """Pair the operators and tensors of two files.

    Args:
        traced: The traced file.
        reference: The reference.
        numbers: The number of the reference's input for each input of the traced file.
        readable: The tensors of the traced file whose values are known.
        readable_reference: The tensors of the reference whose values are known.
        states: The variables of the traced file whose values before each step are known.

    Raises:
        MatchError: Fewer than a third of the operators have a counterpart.
    """
    paired = _pair(traced, reference, numbers, scaled=False)
    if paired.lonely:
        scaled = _pair(traced, reference, numbers, scaled=True)
        paired = scaled if len(scaled.lonely) < len(paired.lonely) else paired
    reshaping = _reshapes_alone(paired)
    if any(reshaping):
        paired = _paired_without(paired, reshaping, traced, reference, numbers)
    ours, theirs, pairs, values = paired.ours, paired.theirs, paired.pairs, paired.values
    if 3 * len(pairs) < len(ours.operators):
        raise MatchError(
            f"this is not a file of the same model: only {len(pairs)} of {len(ours.operators)} "
            "operators have a counterpart in it",
            hint="give a .tflite made from the same model",
        )
    matches = _matches(traced, reference, ours, values, pairs)
    hidden = paired.turned[0].hidden
    matches = {index: match for index, match in matches.items() if index not in hidden}
    matches, notes = _with_parameters(traced, reference, matches, values, ours, theirs)
    steps, checks, reasons, shapes = _steps(traced, reference, paired, readable - hidden, states)
    unmatched = {
        i: Unmatched(
            i,
            HIDDEN
            if i in hidden
            else f"no operator of the reference computes what operator {op.index} does",
        )
        for op in traced.subgraph.operators
        for i in op.outputs
        if i >= 0 and i not in matches
    }
    found = {
        i: values[ours.root(i)]
        for i in matches
        if i in readable and values[ours.root(i)] in readable_reference
    }
    return RelatedFiles(
        relation=Relation(
            Matching(matches, unmatched, tuple(numbers), shapes),
            reasons,
            checks,
            joint=_joint(traced.subgraph, paired, steps),
            operations=_operations(traced.subgraph, reference.subgraph, pairs),
        ),
        steps=steps,
        aliases=aliases(paired.turned[0].view, readable - hidden),
        values=found,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Paired:
    """Two files whose operators are paired, with turns of activations looked through."""

    ours: Index
    theirs: Index
    turned: tuple[Turned, Turned]
    """The turns of the traced file and of the reference."""
    pairs: tuple[Pair, ...]
    values: Mapping[int, int]

    @property
    def lonely(self) -> set[int]:
        """The operators of the traced file without a counterpart."""
        return {op.index for op in self.ours.operators} - {pair.traced for pair in self.pairs}


def _reshapes_alone(paired: _Paired) -> tuple[frozenset[int], frozenset[int]]:
    """Return the operators of either file that only reshape and have no counterpart."""
    met = ({p.traced for p in paired.pairs}, {p.reference for p in paired.pairs})
    return (
        frozenset(o.index for o in paired.ours.operators if o.kind in LAYOUT_KINDS) - met[0],
        frozenset(o.index for o in paired.theirs.operators if o.kind in LAYOUT_KINDS) - met[1],
    )


def _paired_without(
    paired: _Paired,
    reshaping: tuple[frozenset[int], frozenset[int]],
    traced: Holder,
    reference: Holder,
    numbers: Sequence[int],
) -> _Paired:
    """Pair operators again, looking through those that only reshape, which count as copies."""
    turned = tuple(
        replace(one, view=_with_copies(one.view, found))
        for one, found in zip(paired.turned, reshaping, strict=True)
    )
    return _pair_views(traced, reference, numbers, (turned[0], turned[1]))


def _with_copies(subgraph: Subgraph, numbers: frozenset[int]) -> Subgraph:
    """Return a subgraph in which some operators count as copies of their first input."""
    operators = tuple(
        replace(op, kind="DEQUANTIZE", inputs=op.inputs[:1]) if op.index in numbers else op
        for op in subgraph.operators
    )
    return replace(subgraph, operators=operators)


def _pair(traced: Holder, reference: Holder, numbers: Sequence[int], *, scaled: bool) -> _Paired:
    """Pair operators, looking through products for each channel of the traced file if ``scaled``.

    The caller uses that only if it leaves fewer operators without a counterpart, since both files
    may have such a product.
    """
    turned = (
        without_turns(traced.graph, traced.subgraph, scaled=scaled),
        without_turns(reference.graph, reference.subgraph),
    )
    return _pair_views(traced, reference, numbers, turned)


def _pair_views(
    traced: Holder, reference: Holder, numbers: Sequence[int], turned: tuple[Turned, Turned]
) -> _Paired:
    ours, theirs = Index(traced.graph, turned[0].view), Index(reference.graph, turned[1].view)
    inputs = {
        mine: theirs.root(reference.subgraph.inputs[number])
        for mine, number in zip(traced.subgraph.inputs, numbers, strict=True)
    }
    pairs, values = pair_operators(ours, theirs, inputs)
    return _Paired(ours, theirs, turned, pairs, values)


def _joint(
    subgraph: Subgraph, paired: _Paired, steps: Sequence[Computation]
) -> dict[int, tuple[int, ...]]:
    """Return the operators that are checked together by tensor: the turn, and its reader."""
    results = {index for step in steps for index in step.results.values()}
    return {
        index: (*turn.ops, number)
        for number, turn in paired.turned[0].turns.items()
        for index in subgraph.operators[number].outputs
        if index in results
    }


def _operations(traced: Subgraph, reference: Subgraph, pairs: Sequence[Pair]) -> dict[int, str]:
    """Return by output tensor the kind of the operator that is its producer's counterpart."""
    return {
        index: reference.operators[pair.reference].kind
        for pair in pairs
        for index in traced.operators[pair.traced].outputs
    }


def _matches(
    traced: Holder,
    reference: Holder,
    ours: Index,
    values: Mapping[int, int],
    pairs: Sequence[Pair],
) -> dict[int, Match]:
    rules = {
        i: pair for pair in pairs for i in traced.subgraph.operators[pair.traced].outputs if i >= 0
    }
    others = traced.subgraph.non_activations
    matches = {}
    for index in (*traced.subgraph.inputs, *traced.subgraph.producers):
        root = ours.root(index)
        if index in others or root not in values:
            continue
        tensor = reference.subgraph.tensors[values[root]]
        pair = rules.get(root)
        rule = "input" if pair is None else pair.rule
        rule = rule if root == index else "carried"
        matches[index] = counterpart(index, tensor, rule, pair.confidence if pair else 1.0)
    return matches


def _with_parameters(
    traced: Holder,
    reference: Holder,
    matches: dict[int, Match],
    values: Mapping[int, int],
    ours: Index,
    theirs: Index,
) -> tuple[dict[int, Match], tuple[str, ...]]:
    """Compare scales and zero points, unless the files were calibrated differently.

    They were if fewer than half of the parameters are equal; then no single one is wrong.
    """
    judged = dict(matches)
    copies = _copies(traced, reference, ours, theirs, values)
    equal = differ = 0
    for index, match in matches.items():
        mine = traced.subgraph.tensors[index]
        expected = _expected(mine, reference, values.get(index, copies.get(index)))
        if expected is None:
            continue
        same = same_parameters(mine, expected)
        equal, differ = equal + same, differ + (not same)
        judged[index] = replace(match, parameters="equal" if same else "differ", expected=expected)
    if equal < differ:
        note = (
            f"{differ} of {equal + differ} scales and zero points are not the reference's: the "
            "files were calibrated differently, so parameters are not compared"
        )
        return matches, (note,)
    return judged, ()


def _copies(
    traced: Holder, reference: Holder, ours: Index, theirs: Index, values: Mapping[int, int]
) -> dict[int, int]:
    """Pair the outputs of QUANTIZE: copies of one value and type, by name if there are several."""
    outputs = [
        [op.outputs[0] for op in side.subgraph.operators if op.kind in ALIASES]
        for side in (traced, reference)
    ]
    found = {}
    for index in outputs[0]:
        mine, value = traced.subgraph.tensors[index], values.get(ours.root(index))
        others = [reference.subgraph.tensors[i] for i in outputs[1] if theirs.root(i) == value]
        fitting = [t for t in others if t.type == mine.type]
        named = [t for t in fitting if t.name == mine.name]
        if len(named or fitting) == 1:
            found[index] = (named or fitting)[0].index
    return found


def _expected(
    mine: Tensor, reference: Holder, counterpart_index: int | None
) -> tuple[float, int] | None:
    if counterpart_index is None:
        return None
    other = reference.subgraph.tensors[counterpart_index]
    affine = other.affine
    if mine.lsb is None or affine is None:
        return None
    return (affine.scale, affine.zero_point) if mine.type == other.type else None


def _steps(
    traced: Holder,
    reference: Holder,
    paired: _Paired,
    readable: frozenset[int],
    states: Sequence[int],
) -> tuple[
    tuple[Computation, ...], dict[int, WeightCheck], dict[int, str], dict[int, tuple[int, ...]]
]:
    theirs, values = paired.theirs, paired.values
    views = [turned.view for turned in paired.turned]
    turns = [turned.turns for turned in paired.turned]
    holders: dict[int, list[int]] = {}
    for index in sorted(readable):
        root = paired.ours.root(index)
        if root in values:
            holders.setdefault(values[root], []).append(index)
    steps: list[Computation] = []
    checks: dict[int, WeightCheck] = {}
    reasons: dict[int, str] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for pair in paired.pairs:
        op, other = views[0].operators[pair.traced], views[1].operators[pair.reference]
        by = (turns[0].get(op.index), turns[1].get(other.index))
        check, rounded = compare_constants(traced, op, reference, other, by)
        if check is not None:
            checks[op.outputs[0]] = check
        feeds = _feeds(traced, reference, theirs, op, other, holders)
        if isinstance(feeds, dict):
            feeds |= _states(traced.subgraph, reference.subgraph, op, other, states)
        reason = untwinned(reference.subgraph, other)
        if reason is None and isinstance(feeds, str):
            reason = feeds
        if reason is not None or isinstance(feeds, str):
            reasons.update((i, reason or "") for i in op.outputs)
            continue
        stated = reference.subgraph.tensors[other.outputs[0]]
        if traced.subgraph.tensors[op.outputs[0]].elements != stated.elements:
            shapes[op.outputs[0]] = stated.shape
        results = {b: a for a, b in zip(op.outputs, other.outputs, strict=False) if a in readable}
        steps.append(Computation(other, feeds, results, rounded))
    return tuple(steps), checks, reasons, shapes


def _feeds(
    traced: Holder,
    reference: Holder,
    theirs: Index,
    op: Operator,
    other: Operator,
    holders: Mapping[int, Sequence[int]],
) -> dict[int, Tensor] | str:
    """Return the tensors for the inputs of the reference's operator, preferably those of ``op``."""
    feeds = {}
    shapes = (traced.subgraph.shape_tensors, reference.subgraph.shape_tensors)
    for tensor in given(reference.subgraph, other):
        found = holders.get(theirs.root(tensor.index), ())
        if tensor.index in shapes[1]:
            same_place = op.inputs[other.inputs.index(tensor.index) :][:1]
            found = [i for i in same_place if i in shapes[0]]
        index = next((i for i in (*op.inputs, *found) if i in found), None)
        if index is None:
            return f"the reference's input '{tensor.name}' has no counterpart in this file"
        if traced.subgraph.tensors[index].elements != tensor.elements:
            return f"the reference's input '{tensor.name}' has another shape"
        feeds[tensor.index] = traced.subgraph.tensors[index]
    return feeds


def _states(
    traced: Subgraph, reference: Subgraph, op: Operator, other: Operator, known: Sequence[int]
) -> dict[int, Tensor]:
    """Return the tensors for the variables of the reference's operator: those at the same input."""
    return {
        theirs: traced.tensors[mine]
        for mine, theirs in zip(op.inputs, other.inputs, strict=False)
        if mine in known
        and theirs >= 0
        and reference.tensors[theirs].is_variable
        and reference.tensors[theirs].elements == traced.tensors[mine].elements
    }
