"""The names that `import tfldbg` promises."""

from __future__ import annotations

import pkgutil

import pytest

import tfldbg


def test_every_public_name_is_there() -> None:
    for name in tfldbg.__all__:
        assert callable(getattr(tfldbg, name)), name


def test_no_public_name_is_also_a_folder() -> None:
    folders = {m.name for m in pkgutil.iter_modules(tfldbg.__path__)}
    assert folders.isdisjoint(tfldbg.__all__)


def test_a_reference_is_a_function_or_a_name() -> None:
    with pytest.raises(tfldbg.UsageError, match="the reference is of type int"):
        tfldbg.trace("model.tflite", reference=3)  # type: ignore[arg-type]
    with pytest.raises(tfldbg.UsageError, match="there is no reference 'emulate'") as caught:
        tfldbg.trace("model.tflite", reference="emulate")
    assert caught.value.hint is not None and "module:function" in caught.value.hint


def test_modules_for_tests_and_training_are_found_without_another_import() -> None:
    assert callable(tfldbg.testing.assert_matches)
    assert tfldbg.callbacks.FIGURES


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfldbg.nothing  # type: ignore[attr-defined]


def test_a_trace_takes_one_reference() -> None:
    with pytest.raises(tfldbg.UsageError, match="--keras, --against") as caught:
        tfldbg.trace("model.tflite", keras="qat.h5", against="good.tflite")
    assert caught.value.hint is not None and "give one of them" in caught.value.hint


def test_public_names_are_offered_by_completion() -> None:
    assert {*tfldbg.__all__, "callbacks", "testing"} <= set(dir(tfldbg))
