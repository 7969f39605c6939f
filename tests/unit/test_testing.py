"""`assert_matches`: what fails, with which message, and that nothing passes for want of figures."""

from __future__ import annotations

import math
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
import tfldbg.testing
from tests.unit.diagnose.evidence import evidence, of_kind, operator
from tfldbg.callbacks import _figures
from tfldbg.compare.outputs import OutputStats, PairStats
from tfldbg.diagnose.evidence import Body, Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.options.judge import Thresholds
from tfldbg.testing import assert_matches


@pytest.fixture
def asserted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Assert on made-up evidence instead of a trace of a file."""

    def check(made: Evidence, **limits: float) -> tfldbg.Trace:
        found = tfldbg.Trace(made, diagnose(made, Thresholds()))
        monkeypatch.setattr(tfldbg.testing, "trace", lambda model, **options: found)
        return assert_matches("net.tflite", **limits)

    return check


def _clean() -> Evidence:
    pair = PairStats("tflite", "reference", 9, 0.3, 0.1, 0.1, 0, 0.0, True, 0)
    made = evidence(operator(0, local=0.5), operator(1, local=0.5, accumulated=6.0))
    return replace(made, outputs=(OutputStats(101, "net/layer_1/Relu", 0.1, 0.01, (pair,)),))


def test_a_clean_trace_passes_and_is_returned(asserted: Any) -> None:
    assert asserted(_clean()).verdict == "clean"
    assert asserted(_clean(), max_local_lsb=0.6, max_accumulated_lsb=6.1, max_output_error=0.31)


def test_a_divergence_is_told_with_its_why_its_rows_and_its_findings(asserted: Any) -> None:
    ops = [operator(i, local=40.0 if i == 50 else 0.5) for i in range(100)]
    with pytest.raises(AssertionError) as caught:
        asserted(evidence(*ops))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("DIVERGED: operator 50 CONV_2D 'layer_50' is the first to differ")
    assert any(line.split()[:2] == ["50", "CONV_2D"] and "origin" in line for line in lines)
    assert "findings:" in lines and any(line.startswith("  TFL") for line in lines)
    assert "\x1b" not in str(caught.value)
    assert len(lines) < 60 and max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_local_lsb": 0.4}, "operator 0 CONV_2D 'layer_0': local error 0.5 LSB, more"),
        ({"max_accumulated_lsb": 5}, "operator 1 CONV_2D 'layer_1': accumulated error 6 LSB"),
        ({"max_output_error": 0.2}, "the output 'layer_1' is off by up to 0.3, more than 0.2"),
    ],
)
def test_what_is_beyond_a_limit_fails_although_the_verdict_is_clean(
    limits: dict[str, float], said: str, asserted: Any
) -> None:
    with pytest.raises(AssertionError, match="CLEAN") as caught:
        asserted(_clean(), **limits)
    assert str(caught.value).startswith(said)


def test_nothing_passes_for_want_of_figures(asserted: Any) -> None:
    alone = evidence(operator(0, local=None))
    for op in (alone.ops[0], replace(operator(0, local=0.5), activation=False)):
        with pytest.raises(AssertionError, match=r"no operator of 'net.tflite' could be compared"):
            asserted(evidence(op))
    with pytest.raises(AssertionError, match="could be compared: it has no operators"):
        asserted(evidence())


def test_a_reference_that_judges_nothing_needs_a_limit(asserted: Any) -> None:
    made = _clean()
    own = replace(made, ops=tuple(replace(op, own=True) for op in made.ops))
    with pytest.raises(AssertionError, match=r"'net.h5' cannot check single operators"):
        asserted(own, max_local_lsb=1)
    assert asserted(own, max_output_error=1) and asserted(own, max_accumulated_lsb=9)
    assert asserted(replace(own, ops=(own.ops[0], made.ops[1])))


def test_a_limit_that_nothing_can_be_held_against_fails(asserted: Any) -> None:
    exact = operator(0, local=0.0)
    floats = replace(exact.local, max_lsb=None)
    floating = replace(exact, local=floats, accumulated=None, scale=None, type="FLOAT32")
    for limit, said in (
        ({"max_local_lsb": 9.0}, "no local error in LSB is known"),
        ({"max_accumulated_lsb": 9.0}, "no accumulated error in LSB is known"),
        ({"max_output_error": 9.0}, "has no output that could be compared"),
    ):
        assert asserted(evidence(floating))
        with pytest.raises(AssertionError, match=said):
            asserted(evidence(floating), **limit)
    without = replace(_clean(), outputs=(replace(_clean().outputs[0], pairs=()),))
    with pytest.raises(AssertionError, match="the output 'layer_1' has no counterpart"):
        asserted(without, max_output_error=9.0)


def _looped() -> Evidence:
    """Operator 1 is a loop that holds the largest local error."""
    inside = evidence(operator(0, local=0.5))
    body = Body(1, "WHILE", "body", 2, 1, 3, True, None, inside)
    loop = replace(operator(1, local=None, accumulated=0.5), kind="WHILE")
    made = replace(evidence(operator(0, local=0.0), loop), bodies=(body,))
    return replace(made, run=replace(made.run, **of_kind("self")))


def test_operators_inside_loops_are_held_to_the_limits(asserted: Any) -> None:
    assert asserted(_looped(), max_local_lsb=0.6)
    with pytest.raises(AssertionError, match=r"^inside operator 1, operator 0 CONV_2D 'layer_0'"):
        asserted(_looped(), max_local_lsb=0.1)
    figures = _figures(tfldbg.Trace(_looped(), diagnose(_looped(), Thresholds())))
    assert figures["gap_local_max_lsb"] == pytest.approx(0.5)


def test_values_that_are_not_finite_are_beyond_every_limit(asserted: Any) -> None:
    one = operator(0, local=0.5)
    bad = replace(one, accumulated=replace(one.accumulated, nan=3))
    with pytest.raises(AssertionError, match="'layer_0': 3 elements are NaN or infinite"):
        asserted(evidence(bad), max_accumulated_lsb=9)


def test_operators_that_could_not_be_checked_do_not_fail_beside_others(asserted: Any) -> None:
    made = evidence(operator(0, local=0.5), operator(1, local=None))
    assert asserted(made, max_local_lsb=0.6, max_accumulated_lsb=0.6)


@pytest.mark.parametrize("limit", [math.nan, math.inf, -0.1, "1", True, [1], 10**400])
@pytest.mark.parametrize("name", ["max_local_lsb", "max_accumulated_lsb", "max_output_error"])
def test_what_is_no_limit_is_refused_before_the_trace(name: str, limit: Any) -> None:
    with pytest.raises(tfldbg.UsageError, match=f"invalid value .* for {name}: "):
        assert_matches("nothing.tflite", **{name: limit})


def test_numpy_numbers_are_limits(asserted: Any) -> None:
    assert asserted(_clean(), max_local_lsb=np.float32(0.6), max_output_error=np.int64(1))


def test_a_trace_of_another_program_fails(asserted: Any) -> None:
    made = _clean()
    with pytest.raises(AssertionError, match="differ from those of the untouched file"):
        asserted(replace(made, run=replace(made.run, observer_identical=False)))


def test_pytest_hides_the_frame_of_the_assertion(asserted: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        asserted(evidence(operator(0, local=40.0)))
    (last,) = list(traceback.walk_tb(caught.tb))[-1:]
    assert last[0].f_code.co_name == "assert_matches" and last[0].f_locals["__tracebackhide__"]


def test_errors_are_no_failures(tmp_path: Path) -> None:
    with pytest.raises(tfldbg.ModelError):
        assert_matches(tmp_path / "nothing.tflite")
    with pytest.raises(TypeError, match="nonsense"):
        assert_matches(tmp_path / "nothing.tflite", nonsense=1)
