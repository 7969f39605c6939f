"""Collect the measurements of each operator into evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.compare.ranges.fit import marks_of
from tfldbg.diagnose.bounds import Bound, bound, joint_bound
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence, Run
from tfldbg.diagnose.rules import file_findings
from tfldbg.graph.lint import Breach, lint
from tfldbg.graph.query import activation_inputs
from tfldbg.options.runtimes import MICRO
from tfldbg.rewrite.emit import is_real

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.tally import Measured
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.run.job import Loaded

_STATEFUL = frozenset({"READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """An operator output as a file or a recording describes it, before anything is measured."""

    op: Operator
    tensor: Tensor
    activation: bool
    """See `OpEvidence` for this and the fields below."""
    reads: tuple[int, ...]
    bound: Bound
    weighted: bool = False
    stated_shape: tuple[int, ...] | None = None
    """The shape that the file states, if the output has another."""
    breaches: tuple[Breach, ...] = ()
    marks: tuple[float, ...] = ()
    stateful: bool = False


def collect(loaded: Loaded, run: Run, relation: Relation, measured: Measured) -> Evidence:
    """Return the evidence of a run.

    Args:
        loaded: The traced file.
        run: The run.
        relation: The relation of the file to the reference.
        measured: The statistics.
    """
    subgraph = loaded.subgraph
    breaches = _breaches(loaded, run)
    limits = _limits(loaded, run, relation, measured)
    described = [
        _described(loaded, op, index, limits[op.index], breaches.get(op.index, ()), measured)
        for op in subgraph.operators
        for index in op.outputs
        if index >= 0
    ]
    found = evidence_of(run, subgraph, described, relation, measured)
    return replace(found, file=file_findings(loaded.graph, subgraph))


def _breaches(loaded: Loaded, run: Run) -> dict[int, tuple[Breach, ...]]:
    """Return the rules of the specification that each operator breaks."""
    subgraph = loaded.subgraph
    found: dict[int, tuple[Breach, ...]] = {}
    for breach in lint(loaded.graph, subgraph):
        if breach.rule == "axis" and (run.runtime == MICRO or _repaired(run, subgraph, breach)):
            continue  # only LiteRT refuses it, and here TFLM or a repaired copy ran
        found[breach.op] = (*found.get(breach.op, ()), breach)
    return found


def _repaired(run: Run, subgraph: Subgraph, breach: Breach) -> bool:
    """Return whether the copy that ran has a breach repaired, which changes no value."""
    params = subgraph.tensors[breach.tensor].quant
    return run.repair is not None and params is not None and params.stated_axis is not None


def _limits(loaded: Loaded, run: Run, relation: Relation, measured: Measured) -> dict[int, Bound]:
    """Return the bound of each operator, including the operators that are measured with it."""
    subgraph = loaded.subgraph
    rounded = run.traits.full_precision
    quantized = any(m.expected is not None for m in relation.matching.matches.values())
    sides = (
        (run.runtime,) if run.reference_runtime is None else (run.runtime, run.reference_runtime)
    )
    own: dict[int, Bound] = {}
    found: dict[int, Bound] = {}
    for op in subgraph.operators:
        between = any(i in relation.unrounded for i in op.outputs)
        unknown = rounded and not quantized and not any(i in relation.checks for i in op.outputs)
        unrounded, unseen = rounded or between, unknown or between
        own[op.index] = limit = bound(
            loaded, op, sides, measured.ranges, unrounded, unseen, measured.usage
        )
        others = relation.joint.get(op.outputs[0], ())[:-1] if op.outputs else ()
        if others:
            rounding = relation.unrounded_before.isdisjoint(op.outputs)
            limit = joint_bound(subgraph, op, {i: own[i] for i in others}, limit, rounding=rounding)
        found[op.index] = limit
    return found


def evidence_of(
    run: Run,
    subgraph: Subgraph,
    described: Sequence[Described],
    relation: Relation,
    measured: Measured,
) -> Evidence:
    """Return the evidence of a run from the described operator outputs and the measurements.

    Args:
        run: The run.
        subgraph: The traced subgraph.
        described: Its operator outputs, in execution order.
        relation: The relation of the subgraph to the reference.
        measured: The statistics.
    """
    return Evidence(
        run=run,
        inputs=tuple(_input_evidence(subgraph, i, relation, measured) for i in subgraph.inputs),
        ops=tuple(_op_evidence(output, relation, measured) for output in described),
        ports=relation.ports,
        recording=relation.recording,
        outputs=measured.finals.outputs,
    )


def _input_evidence(
    subgraph: Subgraph, index: int, relation: Relation, measured: Measured
) -> InputEvidence:
    tensor = subgraph.tensors[index]
    found = relation.matching.matches.get(index)
    consumers = subgraph.consumers.get(index, ())
    return InputEvidence(
        tensor=index,
        name=tensor.name,
        scale=tensor.lsb,
        zero_point=tensor.zero_point,
        parameters=found.parameters if found else "none",
        expected=found.expected if found else None,
        first_reader=consumers[0].index if consumers else None,
        usage=measured.usage.get(index),
        beyond=measured.beyond.get(index),
        miscast=relation.miscast.get(index),
        trained=relation.trained.get(index),
        type=tensor.type,
    )


def _described(
    loaded: Loaded,
    op: Operator,
    index: int,
    limit: Bound,
    breaches: tuple[Breach, ...],
    measured: Measured,
) -> Described:
    """Return the description of an operator output by a file."""
    subgraph = loaded.subgraph
    given = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    return Described(
        op=op,
        tensor=subgraph.tensors[index],
        activation=index not in subgraph.non_activations,
        reads=tuple(t.index for t in activation_inputs(subgraph, op)),
        bound=limit,
        weighted=any(is_real(t) and t.has_data for t in given),
        stated_shape=_stated_shape(subgraph, op, index, measured),
        breaches=breaches if index == op.outputs[0] else (),
        marks=marks_of(loaded.graph, subgraph, op),
        stateful=op.kind in _STATEFUL or any(t.is_variable for t in given),
    )


def _op_evidence(output: Described, relation: Relation, measured: Measured) -> OpEvidence:
    tensor, op = output.tensor, output.op
    index = tensor.index
    found = relation.matching.matches.get(index)
    unmatched = relation.matching.unmatched.get(index)
    local = measured.local.get(index)
    reason = relation.reasons.get(index) or (unmatched.reason if unmatched else None)
    inherits = any(i in measured.nan for i in output.reads)
    return OpEvidence(
        op=op.index,
        kind=op.kind,
        tensor=index,
        name=tensor.name,
        type=tensor.type,
        scale=tensor.lsb,
        zero_point=tensor.zero_point,
        activation=output.activation,
        reads=output.reads,
        weighted=output.weighted,
        reference=found.node if found else None,
        match_rule=found.rule if found else None,
        match_confidence=found.confidence if found else 0.0,
        unmatched_reason=unmatched.reason if unmatched else None,
        parameters=found.parameters if found else None,
        expected=found.expected if found else None,
        bound=output.bound,
        joint=relation.joint.get(index, ()),
        local=local,
        local_reason=None if local else reason,
        accumulated=measured.accumulated.get(index),
        split=measured.split.get(index),
        nan=0 if inherits else measured.nan.get(index, 0),
        shape=measured.shapes.get(index, tensor.shape),
        expected_shape=relation.matching.shapes.get(index, output.stated_shape),
        weights=relation.checks.get(index),
        breaches=output.breaches,
        options={k: v for k, v in op.options.items() if isinstance(v, (bool, int, float, str))},
        usage=measured.usage.get(index),
        trained=relation.trained.get(index),
        operation=relation.operations.get(index),
        marks=output.marks,
        own=index in relation.own,
        stateful=output.stateful,
        fed_alike=index in relation.fed_alike,
    )


def _stated_shape(
    subgraph: Subgraph, op: Operator, index: int, measured: Measured
) -> tuple[int, ...] | None:
    """Return the shape that the file states, if the output has another and the inputs do not."""

    def found_of(tensor: Tensor) -> tuple[int, ...]:
        return measured.shapes.get(tensor.index, tensor.shape)

    def differs(tensor: Tensor) -> bool:
        found = found_of(tensor)
        if not tensor.shape or len(found) != len(tensor.shape_signature):
            return bool(tensor.shape) and found != tensor.shape
        known = zip(found, tensor.shape, tensor.shape_signature, strict=True)
        return any(size != stated for size, stated, sign in known if sign != -1)

    tensor = subgraph.tensors[index]
    # A dynamic dimension with another size than in the file also changes the shapes after it.
    given = (subgraph.tensors[i] for i in (*op.inputs, *subgraph.inputs) if i >= 0)
    inherited = any(found_of(t) != t.shape for t in given)
    return tensor.shape if differs(tensor) and not inherited else None
