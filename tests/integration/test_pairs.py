"""Real third-party pairs, post-training quantized."""

from __future__ import annotations

from pathlib import Path

import pytest

import tfldbg
from tests.schema import assert_documented
from tests.sound import assert_sound

PAIRS = Path(__file__).resolve().parents[3] / "shared" / "models" / "pairs"
FILES = sorted(str(p.relative_to(PAIRS)) for p in PAIRS.glob("*/*.tflite"))
DIFFERENT_WEIGHTS = "mlperf_kws_dscnn"


@pytest.mark.skipif(not FILES, reason="the third-party pairs are not part of the product, not here")
@pytest.mark.parametrize("name", FILES or ["absent"])
def test_pair_is_matched_and_judged(name: str) -> None:
    folder = (PAIRS / name).parent
    keras = next(folder / n for n in ("model.h5", "saved_model") if (folder / n).exists())
    result = tfldbg.trace(PAIRS / name, keras=keras, samples=8)
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["coverage"]["unmatched"] == 0
    if DIFFERENT_WEIGHTS in name:
        assert plain["verdict"] == "diverged"
        assert plain["first_divergence"]["op"] == 0
        assert plain["first_divergence"]["signal"] == "weights"
    else:
        assert_sound(result, name)
