"""Arguments, templates and manifests become cases; nothing is traced here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.errors import UsageError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.session.cases import Models, parse_seeds, plan

_TWO: dict[str, Any] = {"seeds": (0, 1)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a few empty files; a plan does not open models."""
    for name in ("b.tflite", "a.tflite", "run_0/m.tflite", "run_1/m.tflite", "odd[1]{x}.tflite"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=5))
def test_seeds_are_the_ranges_one_after_the_other(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{a}-{a + n}" if n else str(a) for a, n in ranges)
    assert parse_seeds(text) == tuple(
        dict.fromkeys(s for a, n in ranges for s in range(a, a + n + 1))
    )


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1,,2", "1-", "0-999999999"])
def test_what_are_no_seeds(text: str) -> None:
    with pytest.raises(UsageError, match=r"invalid value .* for --seeds"):
        parse_seeds(text)


def test_patterns_are_sorted_and_duplicates_dropped(folder: Path) -> None:
    named = plan([Models("./b.tflite"), Models("?.tflite")])
    assert [c.model for c in named] == ["b.tflite", "a.tflite"]
    deep = plan([Models("**/m.tflite")])
    assert [c.model for c in deep] == ["run_0/m.tflite", "run_1/m.tflite"]


def test_a_file_is_itself_whatever_its_name_and_a_missing_one_is_a_row(folder: Path) -> None:
    cases = plan([Models("odd[1]{x}.tflite"), Models("none.tflite")])
    assert [c.model for c in cases] == ["odd[1]{x}.tflite", "none.tflite"]


def test_templates_are_filled_in_for_each_model(folder: Path) -> None:
    against, run_on = Against(keras="k/{stem}_{name}.h5"), RunOn(data="{dir}/d.npz")
    (case,) = plan([Models("run_1/*.tflite", against, run_on)])
    assert (case.against.kind, case.reference) == ("keras", "k/m_m.tflite.h5")
    assert case.data == "run_1/d.npz"
    assert case.seed is None


def test_a_row_for_each_model_seed_and_runtime(folder: Path) -> None:
    many: dict[str, Any] = {"seeds": (0, 7), "runtimes": ("xnnpack", "builtin")}
    cases = plan([Models(name, **many) for name in ("a.tflite", "b.tflite")])
    assert [(c.model, c.seed, c.run_on.runtime) for c in cases] == [
        (model, seed, runtime)
        for model in ("a.tflite", "b.tflite")
        for seed in (0, 7)
        for runtime in ("xnnpack", "builtin")
    ]
    assert {c.family for c in cases} == {"a.tflite", "b.tflite"}


def test_models_of_a_seed_each_are_one_family(folder: Path) -> None:
    against, run_on = Against(keras="run_{seed}/q.h5"), RunOn(data="d.npz")
    cases = plan([Models("run_{seed}/*.tflite", against, run_on, seeds=(0, 1))])
    assert [(c.model, c.reference, c.seed) for c in cases] == [
        ("run_0/m.tflite", "run_0/q.h5", 0),
        ("run_1/m.tflite", "run_1/q.h5", 1),
    ]
    assert {c.family for c in cases} == {"run_{seed}/*.tflite"}


def test_the_kind_of_reference(folder: Path) -> None:
    kinds = {
        "self": Against(),
        "tflite": Against(against="{stem}_good.tflite"),
        "capture": Against(against="{stem}.h5"),
        "runtime": Against(against_runtime="builtin"),
    }
    for kind, against in kinds.items():
        assert plan([Models("a.tflite", against)])[0].against.kind == kind


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("c*.tflite", {}, "'c.*' matches no file"),
        ("run_0", {}, "is a folder"),
        ("a.tflite", {"against": Against(keras="a", against="b")}, "'a.tflite': .*are 2: --keras"),
        ("a.tflite", {"against": Against(keras="{model}.h5")}, "invalid placeholder {model}"),
        ("{stem}.tflite", {}, "invalid placeholder {stem}"),
        ("a.tflite", {"runtimes": ("gpu",)}, "no runtime 'gpu'"),
        ("a.tflite", {"run_on": RunOn(data="d.npz"), **_TWO}, "2 times on the same data"),
        ("a.tflite", {"against": Against(against="r.h5"), **_TWO}, "2 times on the same data"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(
    folder: Path, model: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan([Models(model, **given)])
    assert caught.value.hint
    with pytest.raises(UsageError, match="no models are given"):
        plan([])
