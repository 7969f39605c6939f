"""The tables of the corpus run say what went wrong, and nothing of this machine."""

from __future__ import annotations

from typing import Any

from benchmarks.corpus_table import page, summary

OK = {"outcome": "ok", "said": "", "seconds": 1.0}


def _record(runtime: str, **changes: Any) -> dict[str, Any]:
    trace = {**OK, "verdict": "clean", "identical": True, "operators": 3, "unchecked": {}}
    about = {"file": "tflite/a.tflite", "signature": None, "runtime": runtime}
    ran = {"ran": True, "reason": "", "identical": True, "inspect": OK, "expose": OK, "dump": OK}
    return {**about, **ran, "trace": trace, **changes}


def test_a_sound_run_has_nothing_to_say() -> None:
    records = [_record(r) for r in ("xnnpack", "builtin", "reference")]
    said = "\n".join(summary(records))
    assert "| xnnpack | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 0 | - | 0 |" in said
    assert "Not as it should be" not in said
    assert "| `a.tflite` | all | yes | all | all | all | 0 of 3 |" in page(records)


def test_crashes_other_outputs_and_refusals_are_listed() -> None:
    bug = {"outcome": "bug", "said": "ended with -11", "seconds": 1.0}
    refused = {"outcome": "refused", "said": "the file '/home/me/a.tflite' is odd", "seconds": 1.0}
    records = [
        _record("xnnpack", dump=bug),
        _record("builtin", identical=False),
        _record("reference", trace=refused),
    ]
    said = page(records, ["b.tflite"])
    assert "- `a.tflite` under xnnpack: dump: ended with -11" in said
    assert "- `a.tflite` under builtin: the exposed file has other outputs" in said
    assert "- `a.tflite` under reference: not traced: the file 'a.tflite' is odd" in said
    assert "ended before it reached 1 files: `b.tflite`" in said
    assert "/home" not in said


def test_what_does_not_run_stands_with_its_reason() -> None:
    said = "the xnnpack runtime refused '/m/a.tflite': it does not have the custom operator Foo"
    refused = {"outcome": "refused", "said": said, "seconds": 1.0}
    records = [_record("xnnpack", ran=False, identical=None, trace=refused)]
    row = "| `a.tflite` | xnnpack | it does not have the custom operator Foo | yes | yes |"
    assert row in page(records)
