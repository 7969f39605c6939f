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

    Besides a divergence it fails where nothing could be compared, where looking at the tensors
    changed the file's outputs, and where a limit has nothing to be held against: it never passes
    for want of figures.

    Args:
        model: Path or bytes of the .tflite file.
        max_local_lsb: How large any operator's own error may be at most, LSB; operators inside
            loops and the like are held to it as well.
        max_accumulated_lsb: How large any operator's accumulated error may be at most, LSB.
        max_output_error: How far any element of a final output may be off, real units.
        **options: Whatever `tfldbg.trace` takes: ``keras`` (a path or a live model), ``against``,
            ``data``, ``samples``, ``thresholds``, ``dump``, ...

    Returns:
        The trace, to assert more.

    Raises:
        AssertionError: It does not match; the message is the report.
        TfldbgError: Something is wrong with a file, the data or the options; a limit is no finite
            number that is 0 or more.
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
        raise UsageError(f"{name} is {limit!r}", hint="give a finite number that is 0 or more")


def _as_float(value: object) -> float:
    """Return a number of whatever type, NaN for what is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _doubts(result: Trace, limited: bool) -> Iterator[str]:
    """Yield why a clean verdict would mean nothing.

    Args:
        result: The trace.
        limited: Whether there is a limit to the difference from the reference's own values.
    """
    evidence = result.evidence
    checked = [op for op in evidence.ops if op.local is not None and op.activation]
    if not checked:
        why = next((o.local_reason for o in evidence.ops if o.local_reason), "it has no operators")
        yield f"nothing of '{evidence.run.model_path}' could be compared: {why}"
    elif all(op.own for op in checked) and not limited:
        yield (
            f"'{evidence.run.reference_path}' cannot judge a single operator, so that only a limit "
            "compares with it: give max_accumulated_lsb or max_output_error"
        )
    if not evidence.run.observer_identical:
        yield "the outputs are not those of the untouched file, so the trace is of another program"


def _beyond(
    result: Trace, local: float | None, accumulated: float | None, output: float | None
) -> Iterator[str]:
    """Yield what is beyond a limit, and which limits have nothing to be held against."""
    for side, limit in (("local", local), ("accumulated", accumulated)):
        if limit is not None:
            yield from _operators_beyond(result, side, limit)
    if output is not None:
        yield from _outputs_beyond(result, output)


def _operators_beyond(result: Trace, side: str, limit: float) -> Iterator[str]:
    """Yield the worst operator that breaks a limit; those that were not checked are left out."""
    if not _has_lsb(result.evidence, side):
        yield f"no {side} error in LSB is known, so none can be held against max_{side}_lsb"
        return
    rule = Rule(f"max_{side}_lsb", f"{side}.max_lsb", limit=float(limit))
    gate = judge(result.evidence, result.diagnosis, (rule,))
    broken = [b for b in gate.broken if not b.unchecked]
    if broken:
        worst = max(broken, key=lambda b: math.inf if b.found is None else b.found)
        yield f"{_place(worst)}: {_excess(worst, side, limit)}"


def _has_lsb(evidence: Evidence, side: str) -> bool:
    """Whether any operator has an error in LSB; inside loops there are only local ones."""
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
            yield f"the output '{name}' has no counterpart to be held against"
        for pair in pairs:
            if pair.max_abs > limit:
                size = f"{number(pair.max_abs)}, more than {number(limit)}"
                yield f"the output '{name}' is off by up to {size}"
    if not result.evidence.outputs:
        yield "the file has no output that could be compared"


def _message(result: Trace, reasons: list[str]) -> str:
    from tfldbg.report.terminal import plain_text

    return "\n".join([*reasons, *([""] if reasons else []), plain_text(result)])
