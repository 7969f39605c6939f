"""Rules on made-up evidence: what no quick run shows, and where each rule stays silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.planted import plants
from tests.unit.diagnose.evidence import evidence, of_kind, operator, replace, stats
from tfldbg.compare.accumulate import Accumulator, TensorStats
from tfldbg.compare.relation import Recording
from tfldbg.compare.trials import Trial
from tfldbg.compare.usage import Usage, UsageCounter
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Diagnosis
from tfldbg.graph.lint import Breach
from tfldbg.options.judge import Thresholds


def judged(*ops: OpEvidence, **run: Any) -> Diagnosis:
    """The verdict over operators, with changes to the run's description."""
    return verdict(made(*ops, **run))


def made(*ops: OpEvidence, **run: Any) -> Evidence:
    found = evidence(*ops)
    return replace(found, run=replace(found.run, **run))


def verdict(found: Evidence) -> Diagnosis:
    return diagnose(found, Thresholds())


def named(diagnosis: Diagnosis, code: str) -> list[int | None]:
    return [f.op for f in diagnosis.findings if f.code == code]


def usage(*seen: int, total: int = 1000) -> Usage:
    """What is known of an int8 tensor that held these codes."""
    counter = UsageCounter("INT8")
    counter.update(np.resize(np.array(seen, np.int8), total))
    found = counter.result()
    assert found is not None
    return found


def compared(reference: np.ndarray, test: np.ndarray, lsb: float | None = 0.1) -> TensorStats:
    """Statistics of one channel of values."""
    accumulator = Accumulator(1, lsb)
    accumulator.update(reference.reshape(1, -1, 1), test.reshape(1, -1, 1))
    return accumulator.result()


def trial(op: int, value: str, *, agrees: bool = False, as_traced: bool = False) -> Trial:
    return Trial(op, 100 + op, "runtime", value, 0.0, 0.0, agrees, as_traced)


# What limits a trace.


@plants("TFL006")
def test_outputs_that_looking_changed() -> None:
    assert named(judged(operator(0, local=0.5), observer_identical=False), "TFL006") == [None]
    assert not judged(operator(0, local=0.5)).findings


@plants("TFL007")
def test_operators_that_were_not_checked() -> None:
    found = judged(operator(0, local=0.5), operator(1, local=None))
    (finding,) = [f for f in found.findings if f.code == "TFL007"]
    assert finding.evidence == {"ops": [1]} and "1 operator could not be checked (1)" in (
        finding.message
    )


def test_an_operator_that_differs_is_not_called_unchecked() -> None:
    reshaped = replace(operator(0, local=None), expected_shape=(1, 9))
    assert named(judged(reshaped), "TFL009") == [0]
    assert not named(judged(reshaped), "TFL007")


# Functions.


@plants("TFL012")
def test_a_small_error_that_becomes_large() -> None:
    before = operator(0, local=0.4, accumulated=1.5)
    steep = replace(operator(1, local=0.5, accumulated=20), kind="RSQRT")
    assert named(judged(before, steep), "TFL012") == [1]


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (1.5, {"kind": "CONV_2D"}),
        (6.0, {"kind": "RSQRT"}),  # what reaches it is large already
        (1.5, {"kind": "RSQRT", "local": None}),
        (1.5, {"kind": "EXP", "local": replace(stats(0.5), saturated=1)}),  # clipped, not steep
    ],
)
def test_what_is_not_amplified(before: float, change: dict[str, Any]) -> None:
    steep = replace(operator(1, local=0.5, accumulated=20), **change)
    assert not named(judged(operator(0, local=0.4, accumulated=before), steep), "TFL012")


def _scores(kind: str, zero_point: int, *seen: int) -> tuple[OpEvidence, OpEvidence]:
    logits = replace(operator(0, local=0.4), usage=usage(*range(40)))
    scores = replace(operator(1, local=0.4), kind=kind, zero_point=zero_point, usage=usage(*seen))
    return logits, replace(scores, expected=(scores.scale, zero_point))


@plants("TFL028")
def test_scores_that_vanish() -> None:
    assert named(judged(*_scores("SOFTMAX", -128, -128, -127)), "TFL028") == [1]
    assert named(judged(*_scores("LOGISTIC", -128, -128), data="x.npz"), "TFL028") == [1]
    assert named(judged(*_scores("TANH", 0, -1, 0, 1), data="x.npz"), "TFL028") == [1]


def test_scores_that_are_sure_do_not_vanish() -> None:
    assert not named(judged(*_scores("SOFTMAX", -128, -128, 127)), "TFL028")  # zeros and ones
    assert not named(judged(*_scores("TANH", 0, 127), data="x.npz"), "TFL028")
    assert not named(judged(*_scores("LOGISTIC", -128, -128)), "TFL028")  # random data: nothing


def _hard_swish(*trials: Trial) -> Diagnosis:
    found = made(replace(operator(0, local=10), kind="HARD_SWISH"))
    return verdict(replace(found, trials=trials))


@plants("TFL031")
def test_a_hard_swish_that_is_off() -> None:
    found = _hard_swish(trial(0, "xnnpack", agrees=True), trial(0, "reference", as_traced=True))
    assert [f.code for f in found.findings] == ["TFL046", "TFL031", "TFL001"]
    assert found.findings[1].op == 0


def test_a_hard_swish_that_is_off_under_all_kernels_is_no_matter_of_precision() -> None:
    alike = (trial(0, "xnnpack", as_traced=True), trial(0, "reference", as_traced=True))
    assert not named(_hard_swish(*alike), "TFL031")


LINE = np.linspace(-5, 5, 101)


@plants("TFL038")
@pytest.mark.parametrize("test", [LINE * 1.1, LINE + 0.5, -LINE, np.clip(LINE * 1.2, -5.5, 5.5)])
def test_values_that_are_right_up_to_a_line(test: np.ndarray) -> None:
    op = replace(operator(0, local=None), local=compared(LINE, np.round(test * 10) / 10))
    assert [f.code for f in judged(op).findings] == ["TFL038", "TFL001"]


def test_a_few_wrong_values_are_no_line() -> None:
    test = np.round(LINE * 10) / 10
    test[::9] += 0.3
    op = replace(operator(0, local=None), local=compared(LINE, test))
    assert [f.code for f in judged(op).findings] == ["TFL001"]


def test_a_lost_bias_that_leaves_little_is_no_line() -> None:
    noise = np.round(np.random.default_rng(0).normal(0, 3, LINE.size)) / 10
    op = replace(operator(0, local=None), local=compared(8 + LINE / 10, noise))
    assert [f.code for f in judged(op).findings] == ["TFL001"]


def test_a_lost_activation_is_no_line() -> None:
    op = replace(operator(0, local=None), local=compared(np.maximum(LINE, 0), LINE))
    assert [f.code for f in judged(op).findings] == ["TFL001"]


@plants("TFL051")
def test_an_output_that_is_constant() -> None:
    values = compared(LINE, np.zeros_like(LINE))
    op = replace(operator(0, local=None), local=values, usage=usage(-3))
    assert [f.code for f in judged(op).findings] == ["TFL051", "TFL001"]


def test_a_limit_that_overflowed_when_it_was_converted() -> None:
    """MINIMUM with 1e12, whose code wrapped around to the lowest."""
    values = compared(LINE, np.zeros_like(LINE))
    op = replace(operator(0, local=None), local=values, usage=usage(-128), kind="MINIMUM")
    assert op.scale is not None and op.zero_point is not None
    limited = replace(op, marks=((-128 - op.zero_point) * op.scale,))
    (found,) = [f for f in judged(limited).findings if f.code == "TFL051"]
    assert "as its constant has" in found.message and "overflows" in (found.suggestion or "")
    (other,) = [f for f in judged(replace(op, marks=(1.0,))).findings if f.code == "TFL051"]
    assert "its constant" not in other.message


def test_an_output_that_is_as_constant_as_its_reference() -> None:
    values = compared(1 + LINE / 1000, np.zeros_like(LINE))
    op = replace(operator(0, local=None), local=values, usage=usage(-3))
    assert not named(judged(op), "TFL051")


# Kernels and recordings.


@plants("TFL046", "TFL048")
def test_what_other_kernels_make_of_an_operator() -> None:
    found = made(operator(0, local=10))
    mixed = replace(found, trials=(trial(0, "builtin", agrees=True), trial(0, "reference")))
    assert [f.code for f in verdict(mixed).findings] == ["TFL046", "TFL001"]
    assert "under builtin the same operator agrees" in verdict(mixed).findings[0].message
    same = (trial(0, "builtin", as_traced=True), trial(0, "reference", as_traced=True))
    alike = verdict(replace(found, trials=same))
    assert [f.code for f in alike.findings] == ["TFL001", "TFL048"]
    alone = replace(found, run=replace(found.run, **of_kind("self")), trials=same)
    assert not named(verdict(alone), "TFL048")  # both sides have the file's own constants


def test_two_runtimes_that_disagree() -> None:
    found = judged(operator(0, local=3), **of_kind("runtime"), reference_path="the same")
    assert [f.code for f in found.findings] == ["TFL046", "TFL001"]


@plants("TFL042")
def test_a_recording_of_halves() -> None:
    values = compared(LINE, LINE * 1.0005, lsb=None)
    op = replace(operator(0, local=None), local=values, scale=None, zero_point=None, expected=None)
    found = made(op, **of_kind("capture"))
    halves = replace(found, recording=Recording(half_precision=True, copies=()))
    assert [f.code for f in verdict(halves).findings][:1] == ["TFL042"]
    equal = replace(op, local=compared(LINE, LINE, lsb=None))
    assert not verdict(replace(halves, ops=(equal,))).findings  # round numbers are halves, too
    singles = replace(found, recording=Recording(half_precision=False, copies=()))
    assert not named(verdict(singles), "TFL042")


def _streaming(first: float, later: float) -> Diagnosis:
    drift = replace(stats(later), first_sample_max_abs=0.1 * first)
    op = replace(operator(0, local=0.5), accumulated=drift, stateful=True, kind="SVDF")
    return judged(op, **of_kind("capture"), samples=4)


@plants("TFL033")
def test_a_state_that_was_not_reset() -> None:
    assert named(_streaming(first=0.5, later=40), "TFL033") == [0]


@pytest.mark.parametrize(("first", "later"), [(0.5, 3.0), (30.0, 40.0)])
def test_kernels_that_drift_have_reset_their_state(first: float, later: float) -> None:
    assert not named(_streaming(first, later), "TFL033")


# Ranges.


def _ranged(seen: Usage, **change: Any) -> OpEvidence:
    return replace(operator(0, local=0.5), usage=seen, **change)


@plants("TFL018")
def test_a_range_that_is_hardly_used() -> None:
    assert named(judged(_ranged(usage(-10, 10)), data="x.npz"), "TFL018") == [0]
    few = _ranged(usage(-10, 10, total=192))
    assert named(judged(few, data="x.npz"), "TFL018") == [0]


def _clipping(share: float, **change: Any) -> OpEvidence:
    """A quantized output without a learned range, of which the reference exceeds a share."""
    op = replace(operator(0, local=0.2), parameters="none", usage=usage(-128, 127))
    assert op.local is not None
    cut = replace(op.local, saturated=round(1000 * share), elements=1000)
    return replace(op, local=cut, **change)


@plants("TFL065")
def test_a_range_that_a_fifth_of_the_values_exceed() -> None:
    found = judged(_clipping(0.48), data="x.npz")
    assert (found.verdict, named(found, "TFL065")) == ("clean", [0])
    assert "the range of operator 0 cuts off 48% of its values" in found.sentence


def test_clipping_for_an_operator_that_takes_the_largest() -> None:
    """The converter gives both the range of what is left."""
    clipping = _clipping(0.48)
    largest = replace(operator(1, local=0.2), kind="MAXIMUM", usage=usage(-128, 127))
    found = judged(clipping, replace(largest, reads=(clipping.tensor,)), data="x.npz")
    assert not named(found, "TFL065") and "cuts off" not in found.sentence


@pytest.mark.parametrize(
    ("op", "data"),
    [
        (_clipping(0.48), "random"),
        (_clipping(0.15), "x.npz"),  # outliers
        (_clipping(0.48, usage=usage(-128, 127, total=100)), "x.npz"),
        (_clipping(0.48, parameters="equal"), "x.npz"),  # the reference clamps as well
    ],
)
def test_clipping_that_says_nothing_about_a_range(op: OpEvidence, data: str) -> None:
    found = judged(op, data=data)
    assert not named(found, "TFL065") and "cuts off" not in found.sentence


@pytest.mark.parametrize(
    ("op", "data"),
    [
        (_ranged(usage(-10, 10)), "random"),
        (_ranged(usage(-10, 30)), "x.npz"),
        (_ranged(usage(-10, 10, total=100)), "x.npz"),  # too few values to fill a range
        (_ranged(usage(-10)), "x.npz"),
        (_ranged(usage(-10, 10), kind="SOFTMAX"), "x.npz"),
        (_ranged(replace(usage(-10, 10), codes=65536)), "x.npz"),
    ],
)
def test_what_says_nothing_about_a_range(op: OpEvidence, data: str) -> None:
    assert not judged(op, data=data).findings


def test_a_range_that_a_concatenation_imposes() -> None:
    join = replace(operator(1, local=0.0), kind="CONCATENATION", usage=usage(-128, 127))
    branch = _ranged(usage(-10, 10))
    assert not named(judged(branch, join, data="x.npz"), "TFL018")


def _joined(narrow: Usage) -> tuple[OpEvidence, ...]:
    branch = _ranged(narrow)
    wide = replace(operator(1, local=0.5), usage=usage(-128, 127))
    join = replace(operator(2, local=0.0), kind="CONCATENATION", usage=usage(-128, 127))
    return branch, wide, replace(join, reads=(branch.tensor, wide.tensor))


@plants("TFL026")
def test_a_narrow_branch() -> None:
    found = judged(*_joined(usage(0, 9)), data="x.npz")
    (finding,) = found.findings
    assert (finding.code, finding.op, finding.evidence["branches"]) == ("TFL026", 2, [0])
    assert not judged(*_joined(usage(0, 9))).findings
    assert not judged(*_joined(usage(0, 30)), data="x.npz").findings


def _trained(low: float, high: float, **change: Any) -> OpEvidence:
    return replace(operator(0, local=0.5), trained=(low, high), **change)


@plants("TFL017")
def test_ranges_that_have_not_converged() -> None:
    relu = {"options": {"fusedActivationFunction": "RELU"}}
    assert named(judged(_trained(-6, 6)), "TFL017") == [0]
    assert named(judged(_trained(-1, 6, **relu)), "TFL017") == [0]
    beyond = {"local": replace(stats(0.5), elements=1000, saturated=20), "usage": usage(-128, 127)}
    assert named(judged(_trained(-3, 3, **beyond), data="x.npz"), "TFL017") == [0]


def test_ranges_that_have_converged() -> None:
    relu = {"options": {"fusedActivationFunction": "RELU"}}
    beyond = {"local": replace(stats(0.5), elements=1000, saturated=20), "usage": usage(-128, 127)}
    few = {**beyond, "usage": usage(-128, 127, total=80)}
    assert not judged(_trained(-0.01, 6, **relu)).findings
    assert not judged(_trained(-5, 6)).findings
    assert not judged(_trained(-3, 3, **beyond)).findings  # random data
    assert not judged(_trained(-3, 3, **few), data="x.npz").findings


# Inputs.


def _given(**change: Any) -> Diagnosis:
    given = InputEvidence(
        tensor=99,
        name="image",
        scale=1.0,
        zero_point=-128,
        parameters="none",
        expected=None,
        first_reader=0,
        usage=usage(-128, 127),
        beyond=0.0,
    )
    found = made(operator(0, local=0.5), data=change.pop("data", "x.npz"))
    return verdict(replace(found, inputs=(replace(given, **change),)))


@plants("TFL036")
@pytest.mark.parametrize("change", [{"beyond": 0.5}, {"usage": usage(-128, -127)}])
def test_data_on_another_scale(change: dict[str, Any]) -> None:
    assert named(_given(**change), "TFL036") == [0]
    assert not _given(**change, data="random").findings


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"beyond": 0.05},
        {"usage": usage(-128)},  # a constant input, such as a state
        {"usage": usage(-128, -127), "beyond": None},  # given as codes
    ],
)
def test_data_that_fits(change: dict[str, Any]) -> None:
    assert not _given(**change).findings


def test_an_input_that_only_a_silent_operator_reads() -> None:
    """ASSIGN_VARIABLE writes no tensor, so that there is no evidence of it."""
    assert not _given(first_reader=7).findings


def test_a_breach_that_differs_brings_the_remedy_of_its_rule() -> None:
    for rule, said in (("weights_zero_point", "symmetric=True"), ("bias_scale", "convert")):
        broken = Breach(rule, 0, 7, None, "its scale contradicts another")
        found = judged(replace(operator(0, local=0.5), breaches=(broken,)))
        (divergence,) = found.divergences
        assert divergence.rule == rule and divergence.message == broken.message
        (differs,) = (f for f in found.findings if f.code == "TFL002")
        assert said in differs.suggestion and differs.predicate == broken.message
        assert differs.message.startswith("operator 0 CONV_2D 'layer_0': its scale")


def test_every_maker_of_evidence_is_silent_without_a_fault() -> None:
    sound: list[Callable[[], Diagnosis]] = [
        lambda: judged(operator(0, local=0.5), operator(1, local=0.6), data="x.npz"),
        lambda: judged(operator(0, local=0.5), **of_kind("self")),
        lambda: judged(operator(0, local=0.5), **of_kind("capture")),
    ]
    assert not [f for made_up in sound for f in made_up().findings]
