"""The verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.diagnose.evidence import SCALE, evidence, of_kind, operator, stats
from tfldbg.compare.accumulate import Accumulator
from tfldbg.compare.constants.weights import WeightCheck
from tfldbg.compare.trials import Trial
from tfldbg.diagnose.bounds import Bound, BoundRule
from tfldbg.diagnose.evidence import InputEvidence, OpEvidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.errors import UsageError
from tfldbg.options.judge import Thresholds
from tfldbg.store.evidence_json import evidence_to_json, from_json


def test_drift_alone_is_clean() -> None:
    ops = [operator(i, local=0.5, accumulated=20.0 * i) for i in range(8)]
    found = diagnose(evidence(*ops), Thresholds())
    assert found.verdict == "clean"
    assert set(found.statuses) == {"ok"}
    assert "the accumulated error reaches 140 LSB" in found.sentence


def test_the_first_origin_is_named_and_the_rest_inherits() -> None:
    ops = [
        operator(i, local=12.0 if i == 2 else 0.4, accumulated=12.0 if i > 1 else 1.0)
        for i in range(5)
    ]
    found = diagnose(evidence(*ops), Thresholds())
    assert [d.op for d in found.divergences] == [2]
    assert found.statuses == ("ok", "ok", "origin", "inherited", "inherited")
    assert found.sentence.startswith(
        "operator 2 CONV_2D 'layer_2' is the first to differ under xnnpack: 12 LSB on channel 1"
    )
    assert "the 2 before it are within 0.4 LSB" in found.sentence
    assert found.findings[0].code == "TFL001"


def test_several_origins_are_all_named() -> None:
    ops = [operator(i, local=5.0 if i in (1, 3) else 0.0) for i in range(5)]
    found = diagnose(evidence(*ops), Thresholds())
    assert [d.op for d in found.divergences] == [1, 3]
    assert "further origins: 3" in found.sentence


def test_wrong_parameters_are_an_origin_though_no_number_moves() -> None:
    wrong = replace(operator(1, local=0.1), parameters="differ", expected=(0.11, -3))
    found = diagnose(evidence(operator(0, local=0.1), wrong), Thresholds())
    assert [(d.op, d.signal) for d in found.divergences] == [(1, "parameters")]
    for excused in ("bypassed", "deferred", "none", "equal"):
        fine = replace(wrong, parameters=excused)
        assert diagnose(evidence(fine), Thresholds()).verdict == "clean"


def test_weights_beyond_rounding_are_an_origin() -> None:
    check = WeightCheck(100, 7, max_steps=3.0, worst_channel=4, wrong=9, total=90)
    found = diagnose(evidence(replace(operator(0, local=0.2), weights=check)), Thresholds())
    assert found.divergences[0].signal == "weights"
    assert "9 of its 90 weights" in found.divergences[0].message
    rounded = replace(check, max_steps=0.5)
    assert (
        diagnose(evidence(replace(operator(0, local=0.2), weights=rounded)), Thresholds()).verdict
        == "clean"
    )


def test_nan_is_an_origin() -> None:
    accumulator = Accumulator(1, None)
    accumulator.update(np.ones((1, 4)), np.array([[1.0, np.nan, np.nan, 1.0]]))
    broken = replace(operator(0, local=0.0), local=accumulator.result())
    found = diagnose(evidence(broken), Thresholds())
    assert found.divergences[0].signal == "nonfinite"
    assert "2 NaN values" in found.divergences[0].message


def test_a_wrong_input_is_blamed_on_its_first_reader() -> None:
    given_input = InputEvidence(9, "net/image", 0.2, 0, "differ", (0.1, 0), first_reader=0)
    made = replace(evidence(operator(0, local=0.1)), inputs=(given_input,))
    found = diagnose(made, Thresholds())
    assert found.divergences[0].tensor_index == 9
    assert "reads the input 'image' with scale 0.2" in found.sentence


def test_unchecked_operators_are_counted_and_not_blamed() -> None:
    found = diagnose(evidence(operator(0, local=None), operator(1, local=9.0)), Thresholds())
    assert found.statuses == ("unchecked", "origin")
    assert "(1 of them unchecked)" in found.sentence


def test_float_operators_are_judged_by_their_share() -> None:
    def float_op(error: float, rule: BoundRule) -> object:
        made = replace(operator(0, local=0.0), scale=None, zero_point=None, type="FLOAT32")
        made = replace(made, parameters="none", expected=None, bound=Bound(rule))
        return diagnose(evidence(replace(made, local=stats(error, lsb=None))), Thresholds()).verdict

    assert float_op(1e-5, "float") == "clean"
    assert float_op(1e-2, "float") == "diverged"
    assert float_op(1e-2, "relative") == "clean"
    assert float_op(3.0, "relative") == "diverged"


def test_a_channels_own_allowance_counts_for_that_channel_only() -> None:
    loud = replace(operator(0, local=1.0), bound=Bound("lsb", (0.0, 0.5, 0.0)))
    assert diagnose(evidence(loud), Thresholds()).verdict == "clean"
    elsewhere = replace(loud, bound=Bound("lsb", (0.5, 0.0, 0.5)))
    assert diagnose(evidence(elsewhere), Thresholds()).verdict == "diverged"


@given(st.lists(st.floats(0, 300), min_size=1, max_size=6))
def test_the_verdict_is_exactly_the_threshold(errors: list[float]) -> None:
    limit = 0.75
    ops = [operator(i, local=e) for i, e in enumerate(errors)]
    found = diagnose(evidence(*ops), Thresholds(local_lsb=limit))
    expected = [o.op for o in ops if o.local and o.local.max_abs / 0.1 > limit + 0.005]
    assert [d.op for d in found.divergences] == expected


def test_evidence_survives_the_recording() -> None:
    check = WeightCheck(100, 7, 0.5, 4, 0, 90)
    made = evidence(replace(operator(0, local=3.0), weights=check), operator(1, local=None))
    assert from_json(evidence_to_json(made)) == made


@pytest.mark.parametrize("samples", [True, False])
def test_a_changed_output_is_a_finding(samples: bool) -> None:
    made = evidence(operator(0, local=0.0))
    made = replace(made, run=replace(made.run, observer_identical=samples))
    codes = [f.code for f in diagnose(made, Thresholds()).findings]
    assert codes == ([] if samples else ["TFL006"])


def test_what_could_not_be_checked_is_a_finding() -> None:
    found = diagnose(evidence(operator(0, local=0.2), operator(1, local=None)), Thresholds())
    assert [f.code for f in found.findings] == ["TFL007"]
    assert found.findings[0].evidence == {"ops": [1]}
    assert found.verdict == "clean" and "1 of 2 operators checked" in found.sentence


def test_a_reference_that_is_not_finite_is_a_finding() -> None:
    accumulator = Accumulator(1, None)
    accumulator.update(np.array([[1.0, np.nan]]), np.ones((1, 2)))
    strange = replace(operator(0, local=0.0), local=accumulator.result(), scale=None)
    assert [f.code for f in diagnose(evidence(strange), Thresholds()).findings] == ["TFL008"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_thresholds_that_judge_nothing_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="for --local-lsb: must be"):
        Thresholds(local_lsb=value)


@pytest.mark.parametrize(("error", "confidence"), [(1.0, "likely"), (5.0, "certain")])
def test_the_verdict_says_how_sure_it_is(error: float, confidence: str) -> None:
    found = diagnose(evidence(operator(0, local=error)), Thresholds()).divergences[0]
    assert found.confidence == confidence


def test_a_wrong_scale_excuses_the_bias_that_was_quantized_for_the_right_one() -> None:
    writer = replace(operator(0, local=0.2), parameters="differ", expected=(2 * SCALE, -3))
    stale = Bound("lsb", implied_scale=2 * SCALE, implied_lsb=(0.0, 5.0, 0.0))
    reader = replace(operator(1, local=4.0), bound=stale)
    found = diagnose(evidence(writer, reader), Thresholds())
    assert [d.op for d in found.divergences] == [0]
    beyond = replace(operator(1, local=7.0), bound=stale)
    assert [d.op for d in diagnose(evidence(writer, beyond), Thresholds()).divergences] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "op", "named"),
    [
        ("option", 0, 0),  # with its constant negated all of them agree
        ("float", 2, 2),  # their arithmetic is right as it is, and the last one's kernel is not
    ],
)
def test_which_of_several_that_are_checked_together(
    kind: Literal["option", "float"], op: int, named: int
) -> None:
    inner = [replace(operator(i, local=0.4), kind="ADD", own=True) for i in range(2)]
    last = replace(operator(2, local=30.0), kind="DIV", joint=(0, 1, 2), weighted=False)
    trial = Trial(op, last.tensor, kind, "its constant negated", 0.0, 0.0, True, False)
    found = evidence(*inner, last)
    assert [d.op for d in diagnose(found, Thresholds()).divergences] == [1]  # it has constants
    tried = replace(found, trials=(trial,))
    assert [d.op for d in diagnose(tried, Thresholds()).divergences] == [named]


def _unchecked(index: int, off: float) -> OpEvidence:
    """A float operator that nothing checks; ``off`` is its accumulated error."""
    drift = stats(off, lsb=None)
    plain = replace(operator(index, local=None), scale=None, zero_point=None, parameters=None)
    return replace(plain, type="FLOAT32", bound=Bound("float"), expected=None, accumulated=drift)


@pytest.mark.parametrize(
    ("errors", "origins"),
    [
        ([3.0, 3.0], [0]),  # it reads the model's input, so that its error is its own
        ([1e-6, 3.0], [1]),  # it reads what agrees
        ([0.02, 3.0], []),  # it may have inherited that, and been steep
        ([1e-6, 1e-6], []),
    ],
)
def test_an_unchecked_operator_of_a_file_that_reads_what_agrees(
    errors: list[float], origins: list[int]
) -> None:
    given = InputEvidence(99, "x", None, None, "none", None, 0)
    found = evidence(*(_unchecked(i, off) for i, off in enumerate(errors)))
    run = replace(found.run, **of_kind("tflite"))
    found = replace(found, run=run, inputs=(given,))
    assert [d.op for d in diagnose(found, Thresholds()).divergences] == origins
    quantized = replace(found, inputs=(replace(given, scale=0.1, zero_point=0),))
    assert not diagnose(quantized, Thresholds()).divergences  # its rounding is an error as well
