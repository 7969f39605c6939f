"""Rules that a user gives, held against a result and, before it runs, against the file."""

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
    """Hold a result to rules; the verdict stays what it is.

    Args:
        result: Of a trace, recorded or not.
        rules: One or several, as for ``--fail-on``: ``"sqnr>=30db"``, ``"CONV_2D:local<=1lsb"``,
            ``"diverged"``, ``"TFL014"``.  Without any, and without a file, ``"diverged"`` is the
            rule.
        tolerances: A TOML file of rules, which come before the others.

    Raises:
        UsageError: A rule cannot be read, or applies to no operator.
    """
    given = read_rules(rules, tolerances) or (parse_rule(DIVERGED),)
    return judge(result.evidence, result.diagnosis, given)


def check_rules(rules: Sequence[Rule], model: ModelSource) -> None:
    """Refuse rules that no operator of a file can keep or break, before minutes are spent on it.

    Raises:
        ModelError: The file is no .tflite file.
        UsageError: A rule matches nothing, or counts LSB and matches only tensors without a scale.
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
