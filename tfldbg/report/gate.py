"""The section of a report about the user's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, short
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.diagnose.gate import Broken, Gate

_MOST_ROWS = 24
_COLUMNS = (
    Column("op", right=True),
    Column("kind", fold=True),
    Column("tensor", fold=True),
    Column("metric"),
    Column("found", right=True),
    Column("rule", fold=True),
)


def gate_line(gate: Gate) -> str:
    """Return the outcome of the rules in a line."""
    count = len(gate.rules)
    rules = f"{count} {'rule' if count == 1 else 'rules'}"
    if gate.passed:
        return f"gate: passed {rules}: {', '.join(gate.rules)}"
    said = {broken.rule for broken in gate.broken}
    failed = [rule for rule in gate.rules if rule in said]
    of = f"{len(failed)} of {rules}" if len(failed) < count else rules
    places = f"{len(gate.broken)} {'place' if len(gate.broken) == 1 else 'places'}"
    return f"gate: FAILED {of} in {places}: {', '.join(failed)}"


def gate_section(gate: Gate | None, *, everything: bool) -> tuple[Section, ...]:
    """Return the section, with a row for each broken rule, and the reasons of unknown figures."""
    if gate is None:
        return ()
    if gate.passed:
        return (Section(gate_line(gate)),)
    shown = gate.broken if everything else gate.broken[:_MOST_ROWS]
    left = len(gate.broken) - len(shown)
    lines = [f"operator {_number(b)}: {b.reason}" for b in shown if b.reason is not None]
    if left:
        lines.append(f"... and {left} more: --all shows them")
    rows = tuple(_row(broken) for broken in shown)
    return (Section(gate_line(gate), _COLUMNS, rows, tuple(dict.fromkeys(lines))),)


def _row(broken: Broken) -> tuple[str, ...]:
    found = "-" if broken.found is None else number(broken.found)
    tensor = short(broken.tensor) or f"tensor {broken.tensor_index}"
    return (_number(broken), broken.kind, tensor, broken.metric, found, broken.rule)


def _number(broken: Broken) -> str:
    """Return the operator's number: ``5``, or ``7/2`` for operator 2 inside operator 7."""
    return str(broken.op) if broken.loop is None else f"{broken.loop}/{broken.op}"
