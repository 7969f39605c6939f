"""What is known about the inside of a loop, and what it means for the loop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.diagnose.evidence import evidence, of_kind, operator, stats
from tfldbg.diagnose.evidence import Body, Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.options.judge import Thresholds
from tfldbg.store.evidence_json import evidence_to_json, from_json


def _inner(local: float | None = 0.5) -> Evidence:
    found = evidence(operator(0, local=0.5), operator(1, local=local))
    return replace(found, run=replace(found.run, **of_kind("self")))


def _looped(inner: Evidence | None, *, kind: str = "self", identical: bool = True) -> Evidence:
    """Operator 1 is a loop whose own values cannot be compared."""
    loop = replace(operator(1, local=None), kind="WHILE", parameters="none", reads=(100,))
    found = evidence(operator(0, local=0.5), loop, operator(2, local=0.5))
    reason = None if inner is not None else "it runs another subgraph itself"
    body = Body(1, "WHILE", "body", 2, 4, 20, identical, reason, inner)
    return replace(found, run=replace(found.run, **of_kind(kind)), bodies=(body,))


def _codes(found: Evidence) -> list[str]:
    return [f.code for f in diagnose(found, Thresholds()).findings]


def test_a_loop_that_is_sound_inside_is_checked() -> None:
    diagnosis = diagnose(_looped(_inner()), Thresholds())
    assert (diagnosis.verdict, diagnosis.statuses) == ("clean", ("ok", "ok", "ok"))


@pytest.mark.parametrize(
    "found",
    [
        _looped(_inner(), kind="keras"),
        _looped(_inner(), identical=False),
        _looped(_inner(None)),
        _looped(None),
    ],
    ids=["another model", "other steps", "a part of it", "nothing of it"],
)
def test_a_loop_stays_unchecked_where_something_is_missing(found: Evidence) -> None:
    assert diagnose(found, Thresholds()).statuses[1] == "unchecked"
    assert "TFL007" in _codes(found)


def test_steps_that_end_elsewhere_are_told() -> None:
    assert "TFL006" in _codes(_looped(_inner(), identical=False))
    assert "TFL006" not in _codes(_looped(_inner()))


def test_an_operator_that_is_wrong_inside_makes_the_loop_an_origin() -> None:
    diagnosis = diagnose(_looped(_inner(30.0)), Thresholds())
    (found,) = diagnosis.divergences
    assert (found.op, found.kind, found.tensor_index, found.signal) == (1, "WHILE", 101, "local")
    assert found.message.startswith("operator 1 CONV_2D 'layer_1' of its body (subgraph 2): 30 LSB")
    assert found.message.endswith("worst at step 0")
    assert diagnosis.inside[0] is not None
    assert diagnosis.inside[0].statuses == ("ok", "origin")


def test_what_is_found_inside_is_said_instead_of_what_the_loop_yields() -> None:
    found = _looped(_inner(30.0))
    ops = tuple(replace(o, local=stats(50.0)) if o.op == 1 else o for o in found.ops)
    (divergence,) = diagnose(replace(found, ops=ops), Thresholds()).divergences
    assert "of its body" in divergence.message


def test_evidence_about_loops_survives_json() -> None:
    found = _looped(_inner(30.0))
    assert from_json(evidence_to_json(found)) == found
