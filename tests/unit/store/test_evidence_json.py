"""Evidence as JSON: it comes back as it was, also from recordings that know less."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.compare.custom import MetricStats
from tfldbg.diagnose.evidence import Evidence
from tfldbg.store.evidence_json import from_json, to_json


def _metered() -> Evidence:
    psnr = MetricStats(41.5, 40.0, 43.0, 1, 0, samples=2, infinite=1, left_out=0)
    never = MetricStats(None, None, None, None, None, samples=0, infinite=0, left_out=3)
    op = replace(operator(0, local=0.5), own=True)
    assert op.local is not None
    metered = replace(op.local, metrics={"psnr": psnr, "never": never})
    return evidence(replace(op, local=metered), operator(1, local=None))


def test_metrics_come_back() -> None:
    assert from_json(to_json(_metered())) == _metered()


def test_recordings_made_before_there_were_metrics_still_load() -> None:
    plain = json.loads(to_json(_metered()))
    for op in plain["ops"]:
        del op["own"]
        for side in ("local", "accumulated"):
            if op[side] is not None:
                del op[side]["metrics"]
    (first, _) = from_json(json.dumps(plain)).ops
    assert first.local is not None and first.local.metrics == {} and not first.own
