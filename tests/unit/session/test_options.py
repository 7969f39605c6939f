"""Options of the wrong type, as only Python can give them."""

from __future__ import annotations

from typing import Any

import pytest

import tfldbg
from tests.loop_file import loop_file
from tfldbg.measures.own.find import find_metrics


def psnr(reference: Any, tflite: Any) -> float:
    return float(reference.max() - tflite.max())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": None}, "the model is of type NoneType"),
        ({"model": 5}, "the model is of type int"),
        ({"against": 5}, "against is of type int"),
        ({"dump": 5}, "dump is of type int"),
        ({"samples": "8"}, "invalid value '8' for --samples: must be a whole number"),
        ({"seed": 1.5}, r"invalid value 1\.5 for --seed: must be a whole"),
        ({"top_k": None}, "invalid value None for --top-k: must be a whole"),
        ({"worst": "x"}, "invalid value 'x' for --worst"),
    ],
)
def test_options_of_the_wrong_type_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(tfldbg.UsageError, match=said) as caught:
        tfldbg.trace(**{"model": loop_file(), **options})
    assert caught.value.hint


@pytest.mark.parametrize("given", [psnr, [psnr], ["a:b", 5], 5, {"": psnr}, {1: psnr}, {"a": 1}])
def test_metrics_without_a_name_or_a_function_are_refused(given: Any) -> None:
    with pytest.raises(tfldbg.UsageError) as caught:
        tfldbg.trace(loop_file(), metrics=given)
    assert "metrics={'psnr': " in caught.value.hint or "my_function" in caught.value.hint


def test_metrics_by_name_are_taken() -> None:
    assert find_metrics({"psnr": psnr}) == {"psnr": psnr}
    assert find_metrics(None) == find_metrics(()) == {}
