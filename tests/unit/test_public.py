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


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfldbg.nothing  # type: ignore[attr-defined]


def test_trace_without_a_reference_says_what_to_give() -> None:
    with pytest.raises(tfldbg.UsageError, match="nothing to compare") as caught:
        tfldbg.trace("model.tflite")
    assert caught.value.hint is not None and "--keras" in caught.value.hint
