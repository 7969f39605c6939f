"""Arguments, templates and manifests become cases; nothing is traced here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.errors import UsageError
from tfldbg.session.cases import Request, parse_seeds, plan, read_manifest, requests


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
    with pytest.raises(UsageError, match="are no seeds"):
        parse_seeds(text)


def test_patterns_are_sorted_and_duplicates_dropped(folder: Path) -> None:
    named = requests(("./b.tflite", "?.tflite"), None, Request())
    assert [c.model for c in plan(named)] == ["b.tflite", "a.tflite"]
    deep = plan(requests(("**/m.tflite",), None, Request()))
    assert [c.model for c in deep] == ["run_0/m.tflite", "run_1/m.tflite"]


def test_a_file_is_itself_whatever_its_name_and_a_missing_one_is_a_row(folder: Path) -> None:
    cases = plan(requests(("odd[1]{x}.tflite", "none.tflite"), None, Request()))
    assert [c.model for c in cases] == ["odd[1]{x}.tflite", "none.tflite"]


def test_templates_are_filled_in_for_each_model(folder: Path) -> None:
    given = Request(keras="k/{stem}_{name}.h5", data="{dir}/d.npz")
    (case,) = plan(requests(("run_1/*.tflite",), None, given))
    assert (case.reference_kind, case.reference) == ("keras", "k/m_m.tflite.h5")
    assert case.data == "run_1/d.npz"
    assert case.seed is None


def test_a_row_for_each_model_seed_and_runtime(folder: Path) -> None:
    given = Request(seeds=(0, 7), runtimes=("xnnpack", "builtin"))
    cases = plan(requests(("a.tflite", "b.tflite"), None, given))
    assert [(c.model, c.seed, c.runtime) for c in cases] == [
        (model, seed, runtime)
        for model in ("a.tflite", "b.tflite")
        for seed in (0, 7)
        for runtime in ("xnnpack", "builtin")
    ]
    assert {c.family for c in cases} == {"a.tflite", "b.tflite"}


def test_models_of_a_seed_each_are_one_family(folder: Path) -> None:
    given = Request(keras="run_{seed}/q.h5", data="d.npz", seeds=(0, 1))
    cases = plan(requests(("run_{seed}/*.tflite",), None, given))
    assert [(c.model, c.reference, c.seed) for c in cases] == [
        ("run_0/m.tflite", "run_0/q.h5", 0),
        ("run_1/m.tflite", "run_1/q.h5", 1),
    ]
    assert {c.family for c in cases} == {"run_{seed}/*.tflite"}


def test_the_kind_of_reference(folder: Path) -> None:
    kinds = {
        "self": Request(),
        "tflite": Request(against="{stem}_good.tflite"),
        "capture": Request(against="{stem}.h5"),
        "runtime": Request(against_runtime="builtin"),
    }
    for kind, request in kinds.items():
        assert plan(requests(("a.tflite",), None, request))[0].reference_kind == kind


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("c*.tflite", Request(), "'c.*' matches no file"),
        ("run_0", Request(), "is a folder"),
        ("a.tflite", Request(keras="a", against="b"), "has 2: 'a', 'b'"),
        ("a.tflite", Request(keras="{model}.h5"), "there is no {model}"),
        ("{stem}.tflite", Request(), "there is no {stem}"),
        ("a.tflite", Request(runtimes=("gpu",)), "no runtime 'gpu'"),
        ("a.tflite", Request(samples=0), "invalid value 0 for --samples"),
        ("a.tflite", Request(data="d.npz", seeds=(0, 1)), "2 times on the same data"),
        ("a.tflite", Request(against="r.h5", seeds=(0, 1)), "2 times on the same data"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(
    folder: Path, model: str, given: Request, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan(requests((model,), None, given))
    assert caught.value.hint
    with pytest.raises(UsageError, match="nothing to sweep"):
        plan(requests((), None, Request()))


def _manifest(folder: Path, text: str, given: Request | None = None) -> tuple[Request, ...]:
    path = folder / "run_0" / "m.csv"
    path.write_text(text)
    return read_manifest(path.relative_to(folder), given or Request())


def test_a_manifest_is_relative_to_its_folder_and_falls_back_to_the_options(folder: Path) -> None:
    given = Request(keras="all.h5", data="d.npz", samples=8)
    text = (
        "\ufeffmodel,keras,against,seed,samples,runtime\n"
        "m.tflite,{dir}/q.h5,,,4,builtin\n"
        "*.tflite,,,,,\n"
        "../run_{seed}/m.tflite,,../good.tflite,0-1,,\n"
    )
    one, two, *seeded = plan(_manifest(folder, text, given))
    assert (one.model, one.reference, one.data) == ("run_0/m.tflite", "run_0/q.h5", "d.npz")
    assert (one.samples, one.runtime) == (4, "builtin")
    assert (two.reference, two.samples, two.runtime) == ("all.h5", 8, "xnnpack")
    assert [c.model for c in seeded] == ["run_0/../run_0/m.tflite", "run_0/../run_1/m.tflite"]
    assert {c.reference for c in seeded} == {"run_0/../good.tflite"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'model'"),
        ("keras\na.h5\n", "has no column 'model'"),
        ("model,label\na,1\n", "has a column 'label'"),
        ("model,keras\n,a.h5\n", "line 2: no model"),
        ("model\na,b\n", "line 2: more cells than columns"),
        ("model,seed\na,x\n", "line 2: 'x' are no seeds"),
        ("model,samples\na,x\n", "line 2: 'x' is no number"),
        ('model\n"a"b\n', "is no CSV file"),
    ],
)
def test_what_is_no_manifest(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _manifest(folder, text)
    assert caught.value.hint


def test_a_manifest_that_is_missing_or_binary(folder: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_manifest(Path("none.csv"), Request())
    (folder / "bin.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read the manifest"):
        read_manifest(Path("bin.csv"), Request())
