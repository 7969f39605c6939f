"""Evidence as JSON: it comes back as it was, also from recordings that know less."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.compare.custom import MetricStats
from tfldbg.diagnose.evidence import Body, Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Finding, Subject
from tfldbg.diagnose.result import Result
from tfldbg.options.judge import Thresholds
from tfldbg.report.document import build_document
from tfldbg.store.evidence_json import evidence_to_json, from_json


def _metered() -> Evidence:
    psnr = MetricStats(41.5, 40.0, 43.0, 1, 0, samples=2, infinite=1, left_out=0)
    never = MetricStats(None, None, None, None, None, samples=0, infinite=0, left_out=3)
    op = replace(operator(0, local=0.5), own=True)
    assert op.local is not None
    metered = replace(op.local, metrics={"psnr": psnr, "never": never})
    return evidence(replace(op, local=metered), operator(1, local=None))


def test_metrics_come_back() -> None:
    assert from_json(evidence_to_json(_metered())) == _metered()


def test_recordings_made_before_there_were_metrics_still_load() -> None:
    plain = json.loads(evidence_to_json(_metered()))
    for op in plain["ops"]:
        del op["own"]
        for side in ("local", "accumulated"):
            if op[side] is not None:
                del op[side]["metrics"]
    (first, _) = from_json(json.dumps(plain)).ops
    assert first.local is not None and first.local.metrics == {} and not first.own


def _with_findings() -> Evidence:
    about = Subject(0, "CONV_2D", operator(0, local=0.5).name)
    of_operator = Finding(
        "TFL021", "error", 0, about.tensor, "one: two", {"count": 2}, "mend it", subject=about
    )
    of_file = Finding("TFL047", "info", None, None, "operator 0 CONV_2D: all", {}, "nothing")
    return replace(_metered(), file=(of_operator, of_file))


def test_findings_come_back_with_their_subjects() -> None:
    assert from_json(evidence_to_json(_with_findings())) == _with_findings()


def test_findings_of_recordings_that_hold_sentences_get_their_subjects() -> None:
    made = _with_findings()
    inside = Body(1, "WHILE", "body", 1, 1, 1, True, None, made)
    made = replace(made, bodies=(inside,))
    plain = json.loads(evidence_to_json(made))
    for part in (plain, plain["bodies"][0]["evidence"]):
        for recorded, finding in zip(part["file"], made.file, strict=True):
            del recorded["subject"], recorded["predicate"]
            recorded["message"] = finding.message
    assert "operator 0 CONV_2D 'layer_0': one: two" in json.dumps(plain)
    assert from_json(json.dumps(plain)) == made


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("ops", 0, "zero_point"), [3], r"ops\[0\].zero_point is '\[3\]', expected"),
        (("ops", 0, "op"), "x" * 999, r"ops\[0\].op is 'x{40}', expected int"),
        (("ops", 0, "op"), True, r"ops\[0\].op is 'True', expected int"),
        (("ops", 1, "shape"), [1, None], r"ops\[1\].shape\[1\] is 'None', expected int"),
        (("ops", 0, "status"), 1, "unexpected keyword argument 'status'"),
        (("run", "versions"), {"numpy": 2}, r"run.versions.numpy is '2', expected str"),
        (("run", "samples"), None, "run.samples is 'None', expected int"),
        (("trials",), [1], "must be a mapping"),
    ],
)
def test_values_of_other_types_are_refused(
    place: tuple[str | int, ...], value: object, words: str
) -> None:
    plain = json.loads(evidence_to_json(_metered()))
    holder = plain
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(TypeError, match=words):
        from_json(json.dumps(plain))


_SELDOM = st.sampled_from([True, False, False, False])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_a_recording_with_any_json_is_read_and_reported_or_refused(data: st.DataObject) -> None:
    plain = json.loads(evidence_to_json(_with_findings()))
    if data.draw(st.booleans()):
        plain["file"][0]["message"] = plain["file"][0].pop("predicate")
    holder = plain
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], (dict, list)) or not holder[key] or data.draw(_SELDOM):
            break
        holder = holder[key]
    holder[key] = data.draw(_JSON)
    try:
        read = from_json(json.dumps(plain))
    except (TypeError, ValueError, KeyError, AttributeError):
        return
    build_document(Result(read, diagnose(read, Thresholds())))
