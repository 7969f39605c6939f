"""Rules that a user gives, held against a result and, before it runs, against the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfldbg.diagnose.gate import Gate, check_scopes, judge
from tfldbg.diagnose.limits import DIVERGED, Rule, parse_rule, read_rules
from tfldbg.diagnose.result import Result
from tfldbg.run.job import ModelSource, load


def gate(
    result: Result, rules: Sequence[str] = (), *, tolerances: Path | str | None = None
) -> Gate:
    """Hold a result to rules; the verdict stays what it is.

    Args:
        result: Of a trace, recorded or not.
        rules: As for ``--fail-on``: ``"sqnr>=30db"``, ``"CONV_2D:local<=1lsb"``, ``"diverged"``.
            Without any, and without a file, ``"diverged"`` is the rule.
        tolerances: A TOML file of rules, which come before the others.

    Raises:
        UsageError: A rule cannot be read, or applies to no operator.
    """
    given = read_rules(rules, tolerances) or (parse_rule(DIVERGED),)
    return judge(result.evidence, result.diagnosis, given)


def check_rules(rules: Sequence[Rule], model: ModelSource) -> None:
    """Refuse rules that match no operator of a file, before minutes are spent on running it.

    Raises:
        ModelError: The file is no .tflite file.
        UsageError: A rule matches nothing.
    """
    limits = [rule for rule in rules if rule.metric != DIVERGED]
    if not limits:
        return
    subgraphs = load(model).graph.subgraphs
    check_scopes(
        limits,
        ((op.kind, s.tensors[o].name) for s in subgraphs for op in s.operators for o in op.outputs),
    )
