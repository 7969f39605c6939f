"""Assertions for test suites.

>>> from tfldbg.testing import assert_matches
>>> def test_the_conversion():
...     assert_matches("model.tflite", keras="qat.h5", data="data.npz")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

from tfldbg.api import trace
from tfldbg.compare.sides import REFERENCE, TFLITE
from tfldbg.diagnose.gate import Broken, judge
from tfldbg.diagnose.limits import Rule
from tfldbg.diagnose.words import number, op_name, short
from tfldbg.errors import UsageError

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.session import Trace


def assert_matches(
    model: Any,
    *,
    max_local_lsb: float | None = None,
    max_accumulated_lsb: float | None = None,
    max_output_error: float | None = None,
    **options: Any,
) -> Trace:
    """Assert that a .tflite file matches its reference.

    It fails on a divergence, and also if nothing could be compared, if exposing the tensors changed
    the file's outputs, or if there is no value to check against a limit: it never passes for lack
    of figures.

    Args:
        model: Path or bytes of the .tflite file.
        max_local_lsb: The largest local error of any operator, LSB; it also holds for operators
            in the subgraphs of loops and the like.
        max_accumulated_lsb: The largest accumulated error of any operator, LSB.
        max_output_error: The largest error of any element of a final output, real units.
        **options: The other arguments of `tfldbg.trace`: ``keras`` (a path or a live model),
            ``against``, ``data``, ``samples``, ``thresholds``, ``dump``, ...

    Returns:
        The trace, for further assertions.

    Raises:
        AssertionError: The file does not match; the message is the report.
        TfldbgError: Something is wrong with a file, the data or the options, or a limit is not a
            finite number of at least 0.
    """
    __tracebackhide__ = True
    _check_limit("max_local_lsb", max_local_lsb)
    _check_limit("max_accumulated_lsb", max_accumulated_lsb)
    _check_limit("max_output_error", max_output_error)
    result = trace(model, **options)
    limits = _beyond(result, max_local_lsb, max_accumulated_lsb, max_output_error)
    limited = max_accumulated_lsb is not None or max_output_error is not None
    reasons = [*_doubts(result, limited), *limits]
    if reasons or result.verdict != "clean":
        raise AssertionError(_message(result, reasons))
    return result


def _check_limit(name: str, limit: object) -> None:
    if limit is not None and not 0 <= _as_float(limit) < math.inf:
        raise UsageError(
            f"invalid value {limit!r} for {name}: must be a finite number of at least 0",
            hint=f"use {name}=1.0, or leave it out",
        )


def _as_float(value: object) -> float:
    """Return a number of any type as a float; NaN if it is not a number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _doubts(result: Trace, limited: bool) -> Iterator[str]:
    """Yield the reasons why a clean verdict would mean nothing.

    Args:
        result: The trace.
        limited: True if a limit compares with the reference's own values.
    """
    evidence = result.evidence
    checked = [op for op in evidence.ops if op.local is not None and op.activation]
    if not checked:
        why = next((o.local_reason for o in evidence.ops if o.local_reason), "it has no operators")
        yield f"no operator of '{evidence.run.model_path}' could be compared: {why}"
    elif all(op.own for op in checked) and not limited:
        yield (
            f"'{evidence.run.reference_path}' cannot check single operators, only the limits: "
            "give max_accumulated_lsb or max_output_error"
        )
    if not evidence.run.observer_identical:
        yield "the outputs differ from those of the untouched file: the trace ran another program"


def _beyond(
    result: Trace, local: float | None, accumulated: float | None, output: float | None
) -> Iterator[str]:
    """Yield the limits that are exceeded and those that have nothing to check."""
    for side, limit in (("local", local), ("accumulated", accumulated)):
        if limit is not None:
            yield from _operators_beyond(result, side, limit)
    if output is not None:
        yield from _outputs_beyond(result, output)


def _operators_beyond(result: Trace, side: str, limit: float) -> Iterator[str]:
    """Yield the worst operator that exceeds a limit; operators without a check are left out."""
    if not _has_lsb(result.evidence, side):
        yield f"no {side} error in LSB is known, so max_{side}_lsb cannot be checked"
        return
    rule = Rule(f"max_{side}_lsb", f"{side}.max_lsb", limit=float(limit))
    gate = judge(result.evidence, result.diagnosis, (rule,))
    broken = [b for b in gate.broken if not b.unchecked]
    if broken:
        worst = max(broken, key=lambda b: math.inf if b.found is None else b.found)
        yield f"{_place(worst)}: {_excess(worst, side, limit)}"


def _has_lsb(evidence: Evidence, side: str) -> bool:
    """Return whether any operator has an error in LSB; inside loops there are only local ones."""
    stats = [op.local if side == "local" else op.accumulated for op in evidence.ops]
    if any(s is not None and s.max_lsb is not None for s in stats):
        return True
    inside = [b.evidence for b in evidence.bodies if b.evidence is not None]
    return side == "local" and any(_has_lsb(body, side) for body in inside)


def _place(broken: Broken) -> str:
    name = op_name(broken.op, broken.kind, broken.tensor)
    return name if broken.loop is None else f"inside operator {broken.loop}, {name}"


def _excess(broken: Broken, side: str, limit: float) -> str:
    if broken.found is None:
        return broken.message
    return f"{side} error {number(broken.found)} LSB, more than {number(limit)}"


def _outputs_beyond(result: Trace, limit: float) -> Iterator[str]:
    for output in result.evidence.outputs:
        name = short(output.name) or f"tensor {output.tensor}"
        pairs = [p for p in output.pairs if (p.test, p.against) == (TFLITE, REFERENCE)]
        if not pairs:
            yield f"the output '{name}' has no counterpart to compare with"
        for pair in pairs:
            if pair.max_abs > limit:
                size = f"{number(pair.max_abs)}, more than {number(limit)}"
                yield f"the output '{name}' is off by up to {size}"
    if not result.evidence.outputs:
        yield "the file has no output that could be compared"


def _message(result: Trace, reasons: list[str]) -> str:
    from tfldbg.report.terminal import plain_text

    return "\n".join([*reasons, *([""] if reasons else []), plain_text(result)])
