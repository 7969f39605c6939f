"""Check a result, and before the run the file, against the user's rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.diagnose.gate import Gate, check_scopes, check_steps, judge
from tfldbg.diagnose.limits import DIVERGED, Rule, parse_rule, read_rules
from tfldbg.run.job import load

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result
    from tfldbg.options.sources import ModelSource


def gate(
    result: Result, rules: Sequence[str] | str = (), *, tolerances: Path | str | None = None
) -> Gate:
    """Check a result against rules, without changing its verdict.

    Args:
        result: The result of a trace, recorded or not.
        rules: One or several rules, as for ``--fail-on``: ``"sqnr>=30db"``,
            ``"CONV_2D:local<=1lsb"``, ``"diverged"``, ``"TFL014"``.  Without rules and without a
            file, the rule is ``"diverged"``.
        tolerances: The path of a TOML file of rules, which come before the others.

    Raises:
        UsageError: A rule cannot be read, or applies to no operator.
    """
    given = read_rules(rules, tolerances) or (parse_rule(DIVERGED),)
    return judge(result.evidence, result.diagnosis, given)


def check_rules(rules: Sequence[Rule], model: ModelSource) -> None:
    """Refuse rules that do not apply to any operator of a file, before the trace runs.

    Raises:
        ModelError: The file is not a .tflite file.
        UsageError: A rule matches nothing, or is in LSB and matches only tensors without a scale.
    """
    limits = [rule for rule in rules if rule.limits]
    if not limits:
        return
    outputs = [
        (op.kind, subgraph.tensors[output])
        for subgraph in load(model).graph.subgraphs
        for op in subgraph.operators
        for output in op.outputs
    ]
    check_scopes(limits, ((kind, tensor.name) for kind, tensor in outputs))
    check_steps(limits, [(kind, t.name, t.lsb is not None) for kind, t in outputs])
