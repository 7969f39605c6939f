"""The Keras matrix misses nothing of what the frameworks have, and a slice of it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matrix import architectures, build, coverage, operators, rows, table
from benchmarks.matrix.cases import BOTH, Framework
from benchmarks.matrix.judge import judge

SLICE: tuple[tuple[Framework, str, str], ...] = (
    ("keras", "MultiHeadAttention-transformer-block", "1"),
    ("tf_keras", "AdditiveAttention", "none"),
    ("tf_keras", "SeparableConv2D-dilation-2", "none"),
    ("tf_keras", "SeparableConv2D-dilation-2", "1"),
    ("keras", "GRU-unrolled-sequences", "none"),
    ("keras", "LayerNormalization-axes", "1"),
    ("keras", "Normalization-behind-Dense", "none"),
    ("tf_keras", "Conv2D-groups-2", "none"),
    ("keras", "PReLU-on-image", "none"),
    ("keras", "ops-take-of-a-table", "none"),
    ("tf_keras", "Conv2DTranspose-output-padding", "1"),
    ("keras", "Activation-hard_swish", "none"),
    ("keras", "MultiHeadAttention-self", "none"),
    ("tf_keras", "GRU-unrolled", "1"),
    ("tf_keras", "Conv2D-dilation-2-same", "1"),
    ("keras", "Normalization-behind-Rescaling", "none"),
    ("keras", "Dense-softmax", "none"),
    ("tf_keras", "Dense-rank-4", "none"),
    ("keras", "ops-top_k-both", "none"),
    ("tf_keras", "BatchNormalization-first", "none"),
    ("tf_keras", "TimeDistributed-Dense", "none"),
    ("tf_keras", "Conv1DTranspose-valid", "none"),
    ("keras", "ops-extract_sequences", "none"),
    ("tf_keras", "RandomCrop", "none"),
)
FORMATS = ("float32", "int8")
OTHERS: tuple[tuple[Framework, str, str, str], ...] = (
    ("tf_keras", "GRU-unrolled-sequences", "none", "float16"),
    ("tf_keras", "Conv1DTranspose-same-strides-2", "none", "dynamic"),
    ("tf_keras", "TimeDistributed-Dense", "none", "dynamic"),
)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[rows.Row]:
    """The slice, built, converted, traced, and traced with a fault."""
    cache = tmp_path_factory.mktemp("matrix")
    chosen = [(*case, form) for case in SLICE for form in FORMATS]
    return [
        _judged(build.Place(cache, framework, case, batch), form)
        for framework, case, batch, form in (*chosen, *OTHERS)
    ]


def _judged(place: build.Place, form: str) -> rows.Row:
    build.build(place, form)
    assert not place.refusal(form).exists(), place.refusal(form).read_text()
    build.measure(place, form)
    return judge(place, form, "own", plants=True)


def test_sound_files_are_clean(judged: list[rows.Row]) -> None:
    wrong = [(r.key, r.message) for r in judged if r.outcome != "clean"]
    assert not wrong


def test_every_operator_is_checked(judged: list[rows.Row]) -> None:
    wrong = [(r.key, r.unchecked) for r in judged if r.unchecked]
    assert not wrong


def test_planted_faults_are_named(judged: list[rows.Row]) -> None:
    faults = [(r.key, r.fault) for r in judged if r.fault is not None]
    assert len(faults) >= len(judged) - 2
    assert not [found for found in faults if found[1].outcome != "exact"]


def test_the_sound_files_agree_with_keras(judged: list[rows.Row]) -> None:
    """Without the product: LiteRT's interpreter against the live model."""
    least = {"float32": 100.0, "float16": 60.0, "dynamic": 30.0, "int8": 15.0}
    wrong = [(r.key, r.sqnr) for r in judged if r.sqnr is None or r.sqnr < least[r.form]]
    assert not wrong


@pytest.mark.parametrize("framework", BOTH)
def test_every_layer_has_a_case_or_a_reason(framework: Framework) -> None:
    assert not coverage.uncovered(framework)


def test_reasons_name_layers_that_have_no_case() -> None:
    known = coverage.layer_classes("tf_keras") | coverage.layer_classes("keras")
    covered = {c.layer for c in coverage.all_cases().values()}
    reasons = {name for name in coverage.LEFT_OUT if "." not in name}
    assert reasons <= known - covered


def test_every_function_of_keras_ops_has_a_case_or_a_reason() -> None:
    assert not operators.uncovered_ops()


@pytest.mark.parametrize("framework", BOTH)
def test_every_architecture_has_a_case(framework: Framework) -> None:
    listed = {name for name, frameworks in architectures.NAMES if framework in frameworks}
    assert listed == architectures.architecture_names(build.framework(framework))


def test_rows_are_kept_and_told(judged: list[rows.Row], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    broken = judged[0].changed(outcome="false alarm", message="what was said", first="0 ADD local")
    for row in (*judged, broken):
        rows.append(path, row)
    kept = list(rows.read_rows(path))
    assert kept == [broken, *judged[1:]]
    told = table.render(kept)
    assert "### false alarm: ADD, local (1)" in told
    assert f"what was said [interpreter against Keras: {broken.sqnr} dB] `{broken.path}`" in told
