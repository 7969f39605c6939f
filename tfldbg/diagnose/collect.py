"""Bring everything that was measured about each operator together."""

from __future__ import annotations

from collections.abc import Mapping

from tfldbg.compare.stream import Measured
from tfldbg.compare.weights import WeightCheck
from tfldbg.diagnose.bounds import allowance_lsb, unknown_weights_lsb
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence, Run
from tfldbg.graph.model import Operator, Subgraph
from tfldbg.graph.query import activation_inputs, consumers, folded_constants, non_activations
from tfldbg.match.model import Matching


def collect(
    subgraph: Subgraph,
    run: Run,
    matching: Matching,
    reasons: Mapping[int, str],
    checks: Mapping[int, WeightCheck],
    measured: Measured,
) -> Evidence:
    """Gather the evidence of a run.

    Args:
        subgraph: The TFLite side.
        run: What was run.
        matching: Which node computes which tensor.
        reasons: By tensor why it has no local error.
        checks: By output tensor the comparison of the weights.
        measured: The statistics.
    """
    quantized_reference = any(m.expected is not None for m in matching.matches.values())
    allowances = {}
    for op in subgraph.operators:
        comparable = quantized_reference or any(i in checks for i in op.outputs)
        unknown = 0.0 if comparable else unknown_weights_lsb(subgraph, op)
        known = allowance_lsb(subgraph, op, run.runtime)
        allowances[op.index] = tuple(lsb + unknown for lsb in known)
    return Evidence(
        run=run,
        inputs=tuple(_input_evidence(subgraph, i, matching) for i in subgraph.inputs),
        ops=tuple(
            _op_evidence(
                subgraph, op, index, allowances[op.index], matching, reasons, checks, measured
            )
            for op in subgraph.operators
            for index in op.outputs
            if index >= 0
        ),
    )


def _input_evidence(subgraph: Subgraph, index: int, matching: Matching) -> InputEvidence:
    tensor = subgraph.tensors[index]
    found = matching.matches.get(index)
    readers = consumers(subgraph).get(index, ())
    return InputEvidence(
        tensor=index,
        name=tensor.name,
        scale=tensor.lsb,
        zero_point=tensor.zero_point,
        parameters=found.parameters if found else "none",
        expected=found.expected if found else None,
        first_reader=readers[0].index if readers else None,
    )


def _op_evidence(
    subgraph: Subgraph,
    op: Operator,
    index: int,
    allowance: tuple[float, ...],
    matching: Matching,
    reasons: Mapping[int, str],
    checks: Mapping[int, WeightCheck],
    measured: Measured,
) -> OpEvidence:
    tensor = subgraph.tensors[index]
    found = matching.matches.get(index)
    unmatched = matching.unmatched.get(index)
    local = measured.local.get(index)
    reason = None if local else reasons.get(index) or (unmatched.reason if unmatched else None)
    return OpEvidence(
        op=op.index,
        kind=op.kind,
        tensor=index,
        name=tensor.name,
        type=tensor.type,
        scale=tensor.lsb,
        zero_point=tensor.zero_point,
        activation=index not in non_activations(subgraph),
        reads=tuple(t.index for t in activation_inputs(subgraph, op)),
        reference=found.node if found else None,
        match_rule=found.rule if found else None,
        unmatched_reason=unmatched.reason if unmatched else None,
        parameters=found.parameters if found else None,
        expected=found.expected if found else None,
        hybrid=_is_hybrid(subgraph, op),
        allowance_lsb=allowance,
        local=local,
        local_reason=reason,
        accumulated=measured.accumulated.get(index),
        weights=checks.get(index),
    )


def _is_hybrid(subgraph: Subgraph, op: Operator) -> bool:
    """Whether an operator computes in float with constants of fewer bits."""
    out = subgraph.tensors[op.outputs[0]]
    folded = folded_constants(subgraph)
    given = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    packed = any(t.index in folded or (t.has_data and t.quant is not None) for t in given)
    return out.type == "FLOAT32" and packed
