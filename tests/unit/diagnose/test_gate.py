"""The gate: what a rule means, which of several counts, and what breaks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfldbg
from tests.loop_file import loop_file
from tests.unit.diagnose.evidence import evidence, of_kind, operator, stats
from tfldbg.diagnose.evidence import Body, Evidence, OpEvidence
from tfldbg.diagnose.gate import Gate, judge
from tfldbg.diagnose.limits import SMALL_IS_WORSE, UNITS, parse_rule, read_rules
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Finding, Subject
from tfldbg.diagnose.result import Result, gated
from tfldbg.errors import UsageError
from tfldbg.options.judge import Thresholds
from tfldbg.report.gate import gate_line
from tfldbg.report.trace_json import trace_to_dict
from tfldbg.session import check_rules


def _result(*ops: OpEvidence) -> Result:
    return _of(evidence(*ops))


def _of(made: Evidence) -> Result:
    return Result(made, diagnose(made, Thresholds()))


def _gate(result: Result, *rules: str) -> Gate:
    return judge(result.evidence, result.diagnosis, read_rules(rules))


def _broken(result: Result, *rules: str) -> list[tuple[int, str]]:
    return [(b.op, b.rule) for b in _gate(result, *rules).broken]


def _float(index: int, error: float) -> OpEvidence:
    return replace(
        operator(index, local=None),
        type="FLOAT32",
        scale=None,
        zero_point=None,
        local=stats(error, lsb=None),
        local_reason=None,
        accumulated=stats(error, lsb=None),
    )


DRIFTING = _result(
    operator(0, local=0.5, accumulated=1.0),
    replace(operator(1, local=0.25, accumulated=3.0), kind="ADD", name="net/block/add"),
    operator(2, local=0.7, accumulated=6.0),
)


def test_without_rules_the_verdict_decides() -> None:
    broken = _result(operator(0, local=0.5), operator(1, local=40.0))
    assert gated(broken, ()).gate is None
    assert not gated(broken, ()).passed and gated(DRIFTING, ()).passed
    assert trace_to_dict(gated(broken, ()))["gate"] is None


def test_rules_decide_alone_and_the_verdict_stays() -> None:
    diverged = _result(operator(0, local=0.5), operator(1, local=40.0))
    lenient = gated(diverged, read_rules(["local<=50lsb"]))
    assert lenient.passed and lenient.verdict == "diverged"
    strict = gated(DRIFTING, read_rules(["accumulated<=4lsb"]))
    assert not strict.passed and strict.verdict == "clean"
    both = gated(diverged, read_rules(["local<=50lsb", "diverged"]))
    assert both.gate is not None
    ((op, metric),) = [(b.op, b.metric) for b in both.gate.broken]
    assert (op, metric) == (1, "diverged")
    assert "40 LSB" in both.gate.broken[0].message


def test_both_ways_of_writing_are_the_same_limit() -> None:
    for rules in (("local<=0.6lsb", "local>0.6lsb"), ("sqnr>=30db", "sqnr<30db")):
        first, second = (_gate(DRIFTING, rule).broken for rule in rules)
        assert first and [b.op for b in first] == [b.op for b in second]


@given(
    figure=st.sampled_from(sorted(UNITS)),
    limit=st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
    value=st.floats(-1e6, 1e6),
    strict=st.booleans(),
)
def test_a_limit_is_between_the_good_side_and_the_bad_one(
    figure: str, limit: float, value: float, strict: bool
) -> None:
    good = ">" if figure in SMALL_IS_WORSE else "<"
    limit = limit if figure in SMALL_IS_WORSE else abs(limit)
    bad = "<" if good == ">" else ">"
    holds = parse_rule(f"local.{figure}{good}{'' if strict else '='}{limit}{UNITS[figure]}")
    fails = parse_rule(f"local.{figure}{bad}{'=' if strict else ''}{limit}")
    for tried in (value, limit):
        expected = tried > limit if good == ">" else tried < limit
        expected = expected or (tried == limit and not strict)
        assert holds.allows(tried) == fails.allows(tried) == expected


def test_the_limit_itself_is_allowed_unless_the_sign_excludes_it() -> None:
    result = _result(operator(0, local=0.0))
    assert _broken(result, "max_abs<=0") == _broken(result, "max_abs>0") == []
    assert _broken(result, "max_abs<0") and _broken(result, "max_abs>=0")


def test_short_names_and_units() -> None:
    for short, full in (
        ("local<=1 LSB", "local.max_lsb<=1"),
        ("accumulated<=4lsb", "accumulated.max_lsb<=4"),
        ("sqnr >= 30 dB", "accumulated.sqnr_db>=30"),
        ("local.sqnr>=40db", "local.sqnr_db>=40"),
        ("cosine>=.99", "accumulated.cosine>=0.99"),
        ("max_abs<=1e-1", "accumulated.max_abs<=0.1"),
    ):
        one, other = parse_rule(short), parse_rule(full)
        assert (one.metric, one.limit, one.equal) == (other.metric, other.limit, other.equal)


def test_the_most_specific_rule_counts_and_of_equals_the_last() -> None:
    wide, kind, tensor = (
        "accumulated<=0.5lsb",
        "CONV_2D:accumulated<=4lsb",
        "net/layer_2*:max_lsb<=9",
    )
    assert _broken(DRIFTING, wide) == [(0, wide), (1, wide), (2, wide)]
    assert _broken(DRIFTING, wide, kind) == [(1, wide), (2, kind)]
    assert _broken(DRIFTING, tensor, kind, wide) == [(1, wide)]
    assert _broken(DRIFTING, wide, "accumulated<=9lsb") == []
    assert _broken(DRIFTING, "layer_*:max_lsb<=9", "layer_2:max_lsb<=1") == [
        (2, "layer_2:max_lsb<=1")
    ]


def test_one_metric_does_not_shadow_another() -> None:
    rules = ("local<=0.1lsb", "CONV_2D:accumulated<=9lsb")
    assert [op for op, _ in _broken(DRIFTING, *rules)] == [0, 1, 2]


def test_tensors_are_named_in_full_in_part_or_as_the_table_does() -> None:
    for name in (
        "net/layer_2/Relu;net/layer_2/Conv2D",
        "net/layer_2/Conv2D",
        "layer_2",
        "*[2]/Relu",
    ):
        assert [op for op, _ in _broken(DRIFTING, f"{name}:local<=0.1")] == [2]
    colon = _result(replace(operator(0, local=0.5), name="StatefulPartitionedCall:0"))
    assert _broken(colon, "StatefulPartitionedCall:0:local<=0.1lsb")


def test_what_is_unknown_breaks_a_rule_unless_it_is_exempt() -> None:
    made = _result(operator(0, local=0.5), operator(1, local=None, accumulated=0.5))
    (broken,) = _gate(made, "local<=1lsb").broken
    assert (broken.op, broken.found) == (1, None)
    assert broken.message == "unchecked: its input has no counterpart"
    assert _broken(made, "accumulated<=1lsb") == []
    assert _broken(made, "local<=1lsb", "layer_1:local<=any") == []
    shape = replace(operator(1, local=None), activation=False)
    assert _broken(_result(operator(0, local=0.5), shape), "local<=1lsb") == []


def test_what_is_measured_behind_a_later_operator_is_not_unknown() -> None:
    behind = replace(operator(1, local=0.5), joint=(0, 1))
    made = _result(operator(0, local=None), behind)
    assert _broken(made, "local<=1lsb", "accumulated<=1lsb") == []
    with pytest.raises(UsageError, match="applies to nothing"):
        _gate(made, "layer_0:local<=1lsb")


def test_operators_inside_a_loop_are_held_to_the_rules() -> None:
    inside = evidence(operator(0, local=0.5), operator(1, local=2.0))
    body = Body(4, "WHILE", "body", 1, 1, 3, True, None, inside)
    loop = replace(operator(4, local=None, accumulated=0.5), kind="WHILE")
    made = replace(evidence(loop), bodies=(body,))
    made = replace(made, run=replace(made.run, **of_kind("self")))
    (broken,) = _gate(_of(made), "local<=1lsb").broken
    assert (broken.op, broken.loop, broken.main_op) == (1, 4, 4)
    assert _broken(_of(made), "CONV_2D:local<=3lsb", "accumulated<=1lsb") == []
    unseen = replace(made, bodies=(replace(body, evidence=None, reason="it has two outputs"),))
    assert [b.op for b in _gate(_of(unseen), "local<=1lsb").broken] == [4]


def _looped(body: Evidence | None, reason: str | None = None) -> Result:
    """Operator 4 is a loop, operator 5 a convolution behind it."""
    found = Body(4, "WHILE", "body", 1, 1, 3, True, reason, body)
    loop = replace(operator(4, local=None, accumulated=0.5), kind="WHILE")
    made = replace(evidence(loop, operator(5, local=0.5)), bodies=(found,))
    return _of(replace(made, run=replace(made.run, **of_kind("self"))))


def test_what_nobody_saw_inside_a_loop_breaks_the_rules_that_match_nothing_else() -> None:
    unseen = _looped(None, "it runs another subgraph itself")
    (broken,) = _gate(unseen, "FULLY_CONNECTED:local<=1").broken
    assert (broken.op, broken.kind, broken.found, broken.unchecked) == (4, "WHILE", None, True)
    assert "inside this one are unknown: it runs another subgraph itself" in broken.message
    assert _broken(unseen, "FULLY_CONNECTED:local<=any") == []
    assert _broken(unseen, "CONV_2D:local<=1") == []
    with pytest.raises(UsageError, match="matches no operator"):
        _gate(unseen, "FULLY_CONNECTED:sqnr>=30")
    with pytest.raises(UsageError, match="matches no operator"):
        _gate(_looped(evidence(operator(0, local=0.5))), "FULLY_CONNECTED:local<=1")


def test_each_cause_of_no_figure_has_its_own_words() -> None:
    inside = replace(operator(0, local=0.5), kind="FULLY_CONNECTED")
    seen = _looped(evidence(inside))
    mixed = _result(operator(0, local=0.5), _float(1, 0.5))
    for result, rule, said, hint in (
        (seen, "FULLY_CONNECTED:sqnr>=30", "has no accumulated.sqnr_db", "limit local.sqnr_db"),
        (seen, "WHILE:local<=1", "has no local.max_lsb", "operators inside it have"),
        (mixed, "layer_1:accumulated<=1", "has no accumulated.max_lsb", "no LSB: limit max_abs"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            _gate(result, rule)
        told = str(caught.value.hint)
        assert hint in told and told.count(";") == 0
    two = _looped(evidence(inside, replace(inside, op=1)))
    with pytest.raises(UsageError, match=r"none of the 2 .* has an accumulated\.cosine of"):
        _gate(two, "FULLY_CONNECTED:cosine>=0.5")


def test_the_line_names_the_rules_that_are_broken() -> None:
    for rules, said in (
        (("local<=1lsb", "accumulated<=2"), "FAILED 1 of 2 rules in 2 places: accumulated<=2"),
        (("accumulated<=2",), "FAILED 1 rule in 2 places: accumulated<=2"),
        (("local<=0.6", "accumulated<=4"), "FAILED 2 rules in 2 places: local<=0.6, accumul"),
        (("local<=1lsb", "accumulated<=9"), "passed 2 rules: local<=1lsb, accumulated<=9"),
    ):
        assert gate_line(_gate(DRIFTING, *rules)).startswith(f"gate: {said}")


def test_float_tensors_have_no_lsb() -> None:
    mixed = _result(operator(0, local=0.5), _float(1, 0.5))
    assert _broken(mixed, "local<=1lsb") == []
    assert _broken(mixed, "local.max_abs<=0.4") == [(1, "local.max_abs<=0.4")]
    with pytest.raises(UsageError, match="applies to nothing") as caught:
        _gate(mixed, "layer_1:local<=1lsb")
    assert "max_abs" in str(caught.value.hint)


def test_nan_is_never_within_a_limit() -> None:
    bad = replace(stats(0.0), nan=3)
    made = _result(replace(operator(0, local=0.5), accumulated=bad))
    for rule in ("max_abs<=9", "sqnr>=1db", "cosine>=0.1", "accumulated<=9lsb"):
        (broken,) = _gate(made, rule).broken
        assert "3 elements are NaN or infinite" in broken.message
    blind = replace(stats(0.0), elements=0, reference_nonfinite=5)
    made = _result(replace(operator(0, local=0.5), accumulated=blind))
    assert "no element of the reference is finite" in _gate(made, "max_abs<=9").broken[0].message


def test_equal_tensors_have_every_sqnr_and_silent_ones_none() -> None:
    assert _broken(_result(operator(0, local=0.0)), "sqnr>=90db", "cosine>=1") == []
    silent = replace(stats(1.0), sqnr_db=None, cosine=None)
    made = _result(replace(operator(0, local=0.5), accumulated=silent))
    (broken,) = _gate(made, "sqnr>=1db").broken
    assert "one side is all zero" in broken.message


@pytest.mark.parametrize(
    ("rule", "said", "hint"),
    [
        ("sqnr", "has no limit", "quotes"),
        ("sqnr>=", "has no limit", "quotes"),
        (">=3", "has no metric", "quotes"),
        ("", "has no limit", "--fail-on"),
        ("snr>=3db", "no metric 'snr'", "sqnr_db"),
        ("global.rmse<=3", "no metric 'global.rmse'", "local or accumulated"),
        ("sqnr>=30lsb", "not measured in 'lsb'", "its unit is db"),
        ("cosine>=1db", "not measured in 'db'", "no unit"),
        ("local<=nan", "'nan' is not a limit", "any"),
        ("local<=1e999", "'1e999' is not a limit", "number of lsb"),
        ("local==1", "has the sign '=='", "the signs are <=, >=, <, >"),
        ("sqnr=30", "has the sign '='", "the signs are"),
        ("sqnr=>30", "has the sign '=>'", "the signs are"),
        ("sqnr≥30", "has the sign '≥'", "the signs are"),
        ("local<1<2", "has more than one limit", "one limit per rule"),
        (":local<=1", "has an empty scope", "leave the colon out"),
        ("local<=1,sqnr>=30", "holds several rules", "one rule per option"),
        ("CONV_2D:diverged", "gives the verdict a scope", "takes no scope"),
        ("CONV_2D:local<=-1", "local.max_lsb is never negative, and its limit is -1", "at least 0"),
        ("psnr>=30", "no metric 'psnr'", "rules cannot limit your own metrics"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_is_one(rule: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_rule(rule)
    assert hint in str(caught.value.hint)


def test_upper_and_lower_case_are_one_but_in_scopes() -> None:
    for written, meant in (
        ("Diverged", "diverged"),
        ("LOCAL<=1 LSB", "local<=1"),
        ("Local.Max_Abs<=ANY", "local.max_abs<=any"),
        ("SQNR>=-3", "sqnr>=-3db"),
    ):
        assert replace(parse_rule(written), text="") == replace(parse_rule(meant), text="")
    broken = _result(operator(0, local=40.0))
    assert "FAILED 1 rule in 1 place: Diverged" in gate_line(_gate(broken, "Diverged"))


def test_a_rule_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="'CONV2D:local<=1' matches no operator") as caught:
        _gate(DRIFTING, "CONV2D:local<=1")
    assert "did you mean CONV_2D" in str(caught.value.hint)
    with pytest.raises(UsageError, match="matches no operator"):
        _gate(DRIFTING, "block9/*:local<=1")


TOLERANCES = """
diverged = true

["*"]
local.max_lsb = 1
accumulated.sqnr_db = 30.5

[CONV_2D]
local = 2

["net/block/*"]
sqnr = "20 db"
local.max_lsb = "any"
"""


def test_a_file_holds_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(TOLERANCES)
    rules = read_rules(["cosine>=0.9"], path)
    assert [rule.text for rule in rules] == [
        "diverged",
        "local.max_lsb<=1",
        "accumulated.sqnr_db>=30.5",
        "CONV_2D:local.max_lsb<=2",
        "net/block/*:accumulated.sqnr_db>=20 db",
        "net/block/*:local.max_lsb<=any",
        "cosine>=0.9",
    ]
    again = [parse_rule(rule.text) for rule in rules]
    assert again == list(rules)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "hold no rules"),
        ("diverged = false", "hold no rules"),
        ("sqnr = 30", "is not a rule"),
        ("['*']\nlocal = true", "is not a limit"),
        ("['*']\nlocal = inf", "'inf' is not a limit"),
        ("['*']\nsnr = 3", r"t.toml': 'snr' below \[\*\]: there is no metric 'snr'"),
        ("[ADD]\nlocal = -3", r"t.toml': 'local' below \[ADD\]: local.max_lsb is never negative"),
        ("['*'\n", "cannot read"),
        ("\x00", "cannot read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_rules((), path)
    with pytest.raises(UsageError, match="do not exist"):
        read_rules((), tmp_path / "no.toml")


@pytest.mark.parametrize("path", ["/dev/full", ".", "", " ", "\0", 5])
def test_only_regular_files_are_read(path: str) -> None:
    with pytest.raises(UsageError, match="tolerances"):
        read_rules((), path)


def test_lsb_without_a_scale_is_refused_before_the_run() -> None:
    floating, mixed = loop_file(quantized=False), loop_file()
    with pytest.raises(UsageError, match="no tensor that it matches has a scale") as caught:
        check_rules(read_rules("local<=1lsb"), floating)
    assert "max_abs" in str(caught.value.hint)
    check_rules(read_rules(["local.max_abs<=1", "diverged"]), floating)
    check_rules(read_rules(["local<=1lsb", "FULLY_CONNECTED:local<=1"]), mixed)
    with pytest.raises(UsageError, match="'ADD:local<=1' applies to nothing"):
        check_rules(read_rules("ADD:local<=1"), mixed)


def test_the_python_function() -> None:
    assert tfldbg.gate(DRIFTING).passed
    assert not tfldbg.gate(DRIFTING, ["accumulated<=4lsb"]).passed
    assert tfldbg.gate(DRIFTING, "accumulated<=4lsb").rules == ("accumulated<=4lsb",)
    with pytest.raises(UsageError, match="the rule 4 is not a string"):
        tfldbg.gate(DRIFTING, [4])  # type: ignore[list-item]
    assert not tfldbg.gate(_result(operator(0, local=9.0))).passed


def test_a_finding_that_breaks_a_rule_is_told_without_the_operators_name() -> None:
    result = _result(operator(0, local=0.5))
    about = Subject(0, "CONV_2D", "net/layer_0/Conv2D")
    found = Finding("TFL021", "error", 0, "layer", "its bias: cut off", {}, "mend it")
    for finding in (found, replace(found, subject=about)):
        diagnosis = replace(result.diagnosis, findings=(finding,))
        (broken,) = judge(result.evidence, diagnosis, read_rules(["TFL021"])).broken
        assert broken.reason == "its bias: cut off"
        assert not broken.unchecked


def test_what_was_not_checked_is_told_from_what_is_wrong() -> None:
    result = _result(operator(0, local=0.5), operator(1, local=None))
    (blind,) = _gate(result, "local<=1lsb").broken
    assert blind.unchecked and blind.reason == f"unchecked: {blind.why}"
    (told,) = trace_to_dict(gated(result, read_rules(["local<=1lsb"])))["gate"]["broken"]
    assert told["reason"] == blind.reason and "unchecked" not in told
