"""Rules about ranges, ties and data on made-up evidence, and how the verdict counts them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.planted import plants
from tests.unit.diagnose.evidence import evidence, of_kind, operator, replace, stats
from tests.unit.diagnose.test_rules_trace import judged, made, named, trial, usage, verdict
from tfldbg.compare.accumulate import Accumulator, TensorStats
from tfldbg.compare.accuracy import Accuracy, SideAccuracy
from tfldbg.compare.constants.checks import WeightCheck
from tfldbg.compare.trials import Trial
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence
from tfldbg.diagnose.gate import judge
from tfldbg.diagnose.limits import parse_rule
from tfldbg.diagnose.model import Diagnosis
from tfldbg.errors import UsageError
from tfldbg.quant import nudge, tie

WIDE = 1e4
"""Of a scale: the values reach to 5 (`stats`)."""


def _reaching(size: float, **change: Any) -> TensorStats:
    """Values of which nothing is left when they are rounded to `WIDE` steps."""
    return replace(stats(0.5, lsb=WIDE), reference_max_abs=size, **{"sqnr_db": 0.0, **change})


def _calibrated_in_place(sub_db: float = 0.0, met_db: float = 40.0, **run: Any) -> Diagnosis:
    """SUB has the range of MUL behind it, which reads another tensor besides.

    The errors of SUB and of the other tensor are given in dB below the signal.
    """
    shared = {"scale": WIDE, "zero_point": 0, "parameters": "none", "expected": None}
    sub = replace(operator(0, local=0.2), kind="SUB", usage=usage(-1, 1), **shared)
    other = replace(operator(1, local=0.2), reads=(), accumulated=_reaching(5.0, sqnr_db=met_db))
    gain = replace(operator(2, local=0.2), kind="MUL", usage=usage(-127, 127), **shared)
    return judged(
        replace(sub, accumulated=_reaching(5.0, sqnr_db=sub_db)),
        other,
        replace(gain, accumulated=_reaching(127 * WIDE), reads=(sub.tensor, other.tensor)),
        **{"data": "x.npz", **run},
    )


@plants("TFL053")
def test_a_range_of_the_operator_behind_is_counted_against_a_float_reference() -> None:
    found = _calibrated_in_place()
    assert [(d.op, d.signal) for d in found.divergences] == [(0, "parameters")]
    assert (found.findings[0].code, found.findings[0].severity) == ("TFL053", "error")
    assert found.findings[0].evidence["bits_lost"] == pytest.approx(math.log2(128 * WIDE / 5))


@pytest.mark.parametrize("noise", [{"met_db": -1.0}, {"sub_db": -4.0}])
def test_a_range_that_costs_less_than_what_arrives_anyway(noise: dict[str, float]) -> None:
    """Rounding makes as much error as there is signal; the other input, or its own, more."""
    found = _calibrated_in_place(**noise)
    assert found.verdict == "clean"
    assert [(f.code, f.severity, f.op) for f in found.findings] == [("TFL053", "warning", 0)]


def test_without_a_float_reference_it_is_a_warning() -> None:
    found = _calibrated_in_place(**of_kind("self"))
    assert found.verdict == "clean"
    assert [(f.code, f.severity, f.op) for f in found.findings] == [("TFL053", "warning", 0)]


@pytest.mark.parametrize("run", [{"data": "random"}, of_kind("capture")])
def test_what_says_nothing_of_a_neighbours_range(run: dict[str, str]) -> None:
    found = _calibrated_in_place(**run)
    assert found.verdict == "clean" and not named(found, "TFL053")


@plants("TFL054")
def test_a_padding_that_takes_the_range() -> None:
    shared = {"scale": WIDE, "zero_point": 0, "parameters": "equal", "usage": usage(-127, 0)}
    layer = replace(operator(0, local=0.2), accumulated=_reaching(5.0), **shared)
    pad = replace(operator(1, local=0.2), kind="PADV2", marks=(-127 * WIDE,), **shared)
    pad = replace(pad, accumulated=_reaching(127 * WIDE))
    found = judged(layer, pad, data="x.npz")
    assert (found.verdict, named(found, "TFL054")) == ("clean", [0])  # QAT learned it so
    unshared = [replace(o, parameters="none") for o in (layer, pad)]
    assert judged(*unshared, data="x.npz").divergences[0].op == 0


def _hoisted(**change: Any) -> Diagnosis:
    """What a resize reads has the range of what it yields."""
    clipped = replace(stats(0.2), elements=1000, saturated=50)
    early = replace(
        operator(0, local=0.2), kind="QUANTIZE", parameters="bypassed", local=clipped, **change
    )
    return judged(early, replace(operator(1, local=0.2, accumulated=40.0), kind="RESIZE_BILINEAR"))


@plants("TFL055")
def test_a_requantization_that_clips_before_an_average() -> None:
    found = _hoisted()
    assert [(d.op, d.signal) for d in found.divergences] == [(0, "parameters")]
    assert found.findings[0].code == "TFL055" and "5.00%" in found.findings[0].message


@pytest.mark.parametrize(
    "change", [{"parameters": "equal"}, {"parameters": "none"}, {"local": stats(0.2)}]
)
def test_requantizations_in_their_place(change: dict[str, Any]) -> None:
    clipped = {"local": replace(stats(0.2), elements=1000, saturated=50), "parameters": "bypassed"}
    early = replace(operator(0, local=0.2), kind="QUANTIZE", **{**clipped, **change})
    resize = replace(operator(1, local=0.2, accumulated=40.0), kind="RESIZE_BILINEAR")
    assert not named(judged(early, resize), "TFL055")


@pytest.mark.parametrize(
    "behind",
    [
        {"kind": "MAX_POOL_2D"},  # clipping and the largest change places
        {"accumulated": stats(1.0)},
    ],
)
def test_clipping_that_changes_nothing(behind: dict[str, Any]) -> None:
    clipped = replace(stats(0.2), elements=1000, saturated=50)
    early = replace(operator(0, local=0.2), parameters="bypassed", local=clipped)
    resize = replace(operator(1, local=0.2, accumulated=40.0), kind="RESIZE_BILINEAR")
    assert judged(early, replace(resize, **behind)).verdict == "clean"


def test_a_drift_that_was_there_before_the_clipping() -> None:
    clipped = replace(stats(0.2), elements=1000, saturated=50)
    early = replace(operator(1, local=0.2), parameters="bypassed", local=clipped)
    resize = replace(operator(2, local=0.2, accumulated=40.0), kind="RESIZE_BILINEAR")
    assert judged(operator(0, local=0.2, accumulated=30.0), early, resize).verdict == "clean"


# Ties.


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.3, 0.3), (-6.0, 6.0), (-1.0, 50.0)])
def test_a_tie_is_what_float32_and_double_precision_round_apart(low: float, high: float) -> None:
    scale, point = nudge(low, high)[:2]
    exact = tie(low, high, scale, (point, point + 1))
    assert (exact is not None) is (low == -high or (-low * 255 / (high - low)) % 1 == 0.5)


@pytest.mark.parametrize(
    "given",
    [
        (-1.0, 1.0, 2 / 255, (127, 129)),  # two apart
        (-1.0, 1.0, 2 / 255, (128, 128)),
        (-1.0, 1.001, 2.001 / 255, (127, 128)),  # 0.06 of a step from the half
        (1.0, 1.0, 0.0, (0, 1)),
    ],
)
def test_no_ties(given: tuple[float, float, float, tuple[int, int]]) -> None:
    assert tie(*given) is None


TIED = InputEvidence(
    tensor=99,
    name="image",
    scale=2 / 255,
    zero_point=0,
    parameters="differ",
    expected=(2 / 255, -1),
    first_reader=0,
    usage=usage(-128, 127),
    beyond=0.0,
    trained=(-1.0, 1.0),
    type="INT8",
)


def _given(given: InputEvidence, **run: Any) -> Evidence:
    drifting = [operator(i, local=0.5, accumulated=3.0) for i in range(2)]
    return replace(made(*drifting, **{"data": "x.npz", **run}), inputs=(given,))


def test_an_input_at_a_tie_is_clean_and_a_gate_can_ask_for_it() -> None:
    tied = _given(TIED)
    found = verdict(tied)
    assert (found.verdict, found.statuses) == ("clean", ("ok", "ok"))
    (finding,) = found.findings
    assert (finding.code, finding.severity, finding.op) == ("TFL014", "warning", 0)
    assert "3 LSB" in finding.message and "fraction of a step" in finding.suggestion
    (broken,) = judge(tied, found, [parse_rule("tfl014")]).broken
    assert (broken.op, broken.metric) == (0, "TFL014")
    assert judge(tied, found, [parse_rule("TFL013")]).passed
    wrong = replace(tied, ops=(tied.ops[0], operator(1, local=9.0, accumulated=9.0)))
    (finding,) = [f for f in verdict(wrong).findings if f.code == "TFL014"]
    assert "accumulated error" not in finding.message  # it is that of operator 1


@pytest.mark.parametrize(
    "change", [{"zero_point": 1}, {"expected": (2 / 250, -1)}, {"trained": (-1.0, 1.01)}]
)
def test_inputs_that_differ_by_more_than_a_tie(change: dict[str, Any]) -> None:
    found = verdict(_given(replace(TIED, **change)))
    assert [d.op for d in found.divergences] == [0] and not named(found, "TFL014")


def test_a_finding_that_does_not_exist_is_no_rule() -> None:
    with pytest.raises(UsageError, match="no finding of this code"):
        parse_rule("TFL999")


# Which cause.


def _of_another_checkpoint(op: OpEvidence, wrong: int) -> OpEvidence:
    scaled = replace(op, parameters="differ", expected=(0.11, -3))
    return replace(scaled, weights=WeightCheck(op.tensor, 99, float(wrong), 0, wrong, 90))


def test_other_weights_are_no_sign_of_calibration() -> None:
    stale = judged(*(_of_another_checkpoint(operator(i, local=0.3), 90) for i in range(4)))
    assert stale.findings[0].code == "TFL043" and not named(stale, "TFL013")
    calibrated = judged(*(_of_another_checkpoint(operator(i, local=0.3), 0) for i in range(4)))
    assert calibrated.findings[0].code == "TFL013" and not named(calibrated, "TFL043")


def test_kernels_that_agree_outdo_options_that_happen_to() -> None:
    padded = Trial(0, 100, "option", "padding VALID", 0.0, 0.0, True, False)
    wrong = made(operator(0, local=90), runtime="tf")
    by_kernels = verdict(replace(wrong, trials=(trial(0, "builtin", agrees=True), padded)))
    assert by_kernels.findings[0].code == "TFL046" and not named(by_kernels, "TFL049")
    assert "under tf" in by_kernels.sentence
    by_option = verdict(replace(wrong, trials=(trial(0, "builtin", as_traced=True), padded)))
    assert by_option.findings[0].code == "TFL049"


def test_an_error_is_a_multiple_of_its_limit_in_any_unit() -> None:
    accumulator = Accumulator(1, 3e-35)
    accumulator.update(np.full((1, 9, 1), 3.84e-33), np.zeros((1, 9, 1)))
    tiny = replace(operator(0, local=0.1), scale=3e-35, local=accumulator.result())
    assert judged(replace(tiny, expected=(3e-35, -3))).divergences[0].signal == "local"


# Data.


@plants("TFL057")
@pytest.mark.parametrize(
    ("scale", "codes"),
    [(2 / 255, (-1, 0, 1)), (2 / 255, (0, 1)), (9 / 255, (-4, 0, 4)), (2 / 255, (0,))],
)
def test_real_values_that_were_cast(scale: float, codes: tuple[int, ...]) -> None:
    cast = replace(TIED, parameters="none", beyond=None, scale=scale, usage=usage(*codes))
    narrow = replace(operator(0, local=0.5), usage=usage(-10, 10))
    found = verdict(replace(made(narrow, data="x.npz"), inputs=(cast,)))
    assert named(found, "TFL057") == [0]
    assert not named(found, "TFL018")  # the data is to blame
    assert "were cast" in found.findings[0].message
    assert not verdict(replace(made(narrow), inputs=(cast,))).findings


@pytest.mark.parametrize(
    "change",
    [
        {"usage": usage(*range(-128, 128, 3))},
        {"usage": usage(0, 20)},  # beyond -1 to 1: a dark image
        {"usage": usage(0, 1, total=100)},
        {"scale": 1.0, "usage": usage(0, 1)},  # of steps of 1 they are what quantizing gives
        {"beyond": 0.0},  # given as real values
    ],
)
def test_codes_that_are_codes(change: dict[str, Any]) -> None:
    plain = {"parameters": "none", "beyond": None, "usage": usage(0, 1)}
    given = replace(TIED, **{**plain, **change})
    assert not named(verdict(_given(given)), "TFL057")


def _accuracy(reference: int, file: int, samples: int = 80, classes: int = 4) -> Evidence:
    sides = tuple(
        SideAccuracy(side, right, (0.0, 1.0), right, 0)
        for side, right in (("reference", reference), ("tflite", file))
    )
    found = Accuracy(101, "labels", samples, samples, classes, 5, sides, ())
    half = replace(TIED, parameters="none", usage=usage(0, 127))
    return replace(_given(half), measures={"accuracy": found})


@plants("TFL056")
def test_a_reference_that_guesses() -> None:
    found = verdict(_accuracy(22, 21))
    (finding,) = [f for f in found.findings if f.code == "TFL056"]
    assert (found.verdict, finding.op) == ("clean", 0)
    assert "28% of 80" in finding.message and "50% of its range" in finding.message


@pytest.mark.parametrize(
    ("reference", "file", "samples"),
    [
        (60, 60, 80),
        (22, 70, 80),  # the file knows better
        (3, 3, 8),  # too few samples to tell
    ],
)
def test_references_that_know(reference: int, file: int, samples: int) -> None:
    assert not named(verdict(_accuracy(reference, file, samples)), "TFL056")


# The verdict's sentence.


def test_clean_says_what_it_was_and_what_it_cannot_know() -> None:
    plain = evidence(operator(0, local=0.5))
    alone = replace(plain, run=replace(plain.run, **of_kind("self"), runtime="builtin"))
    assert "no operator differs under builtin" in verdict(alone).sentence
    assert "weights are not checked" in verdict(alone).sentence
    assert "weights" not in verdict(plain).sentence
