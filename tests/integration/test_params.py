"""``tfldbg params``: what it finds, shows and returns."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sample_models import plant
from tfldbg import quant
from tfldbg.compare.ranges.parameters import ParameterTable, expected_by_file, tensor_rows
from tfldbg.options.against import Against
from tfldbg.report.params import Sources, draw_params, params_to_dict
from tfldbg.run.job import load
from tfldbg.session import compare_parameters

AFFINE = {"scale", "zero_point", "min", "max"}


def _table(model: Path, keras: Path | None) -> ParameterTable:
    return compare_parameters(model, against=Against(keras=keras))


def _drawn(table: ParameterTable, sources: Sources, everything: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    draw_params(table, sources, everything, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = (
        "import typer; from tfldbg.cli.commands.params import params\n"
        "app = typer.Typer(); app.command()(params); app()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_pair_has_the_parameters_of_its_fake_quants(samples: Path) -> None:
    table = _table(samples / "cnn.tflite", samples / "cnn.h5")
    assert table.differing == ()
    assert {row.status for row in table.tensors} <= {"equal", "none"}
    assert {row.status for row in table.weights} == {"equal"}
    for row in table.tensors:
        if row.status != "equal":
            continue
        assert row.own and row.expected and row.expected.nudged and row.expected.adjusted
        assert row.own.zero_point == row.expected.nudged.zero_point
        assert row.own.scale == pytest.approx(row.expected.nudged.scale, rel=1e-5)
        assert row.own.minimum == pytest.approx(row.expected.nudged.minimum, rel=1e-5)
        assert row.expected.trained is not None and row.expected.source is not None
    for weights in table.weights:
        assert weights.scale and len(weights.wanted_scale) == len(weights.scale)
        assert all(r == pytest.approx(1, abs=1e-6) for r in weights.bias_ratio)
        assert all(r is not None and r > 1 - 1e-4 for r in weights.ratio)


def test_every_activation_has_a_row_and_every_kernel(samples: Path) -> None:
    subgraph = load(samples / "cnn.tflite").subgraph
    table = _table(samples / "cnn.tflite", None)
    assert [row.op for row in table.tensors] == [None, *range(len(subgraph.operators))]
    assert [row.op for row in table.weights] == [0, 1, 2, 4, 5, 8, 10]
    assert not table.referenced and table.differing == ()


def test_a_file_quantized_after_training_has_other_ranges(samples: Path) -> None:
    table = _table(samples / "dense5_nobias_ptq.tflite", samples / "dense5_nobias.h5")
    assert [row.status for row in table.tensors] == ["equal", "equal", *["differ"] * 5]
    text = _drawn(table, Sources("ptq.tflite", "qat.h5"))
    assert text.startswith(
        "DIFFER: operator 1 FULLY_CONNECTED 'dense' has scale, zero point 0.0453"
    )


def test_its_own_float_model_has_no_parameters_to_compare(samples: Path) -> None:
    table = _table(samples / "dense5_nobias_ptq.tflite", samples / "dense5_nobias_ptq.h5")
    assert {row.status for row in table.tensors} == {"none"}
    assert {row.status for row in table.weights} == {"equal"}
    # The converter holds the scale in float32: max / 127 is what it computes.
    ratios = [r for row in table.weights for r in row.ratio]
    assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-6)


def test_a_wrong_scale_is_named_and_what_reads_it(samples: Path) -> None:
    table = _table(samples / "cnn_wrong_scale.tflite", samples / "cnn.h5")
    assert [row.op for row in table.differing] == [3, 4, 5]  # 4 and 5 hold biases for the right one
    ratios = [r for row in table.weights if row.op in (4, 5) for r in row.bias_ratio]
    assert ratios == pytest.approx([1 / 1.5] * len(ratios))
    alone = _table(samples / "cnn_wrong_scale.tflite", None)
    assert [row.op for row in alone.differing] == [4, 5]


@pytest.mark.parametrize(("fault", "op"), [("zeroed_bias", 8), ("negated_channel", 5)])
def test_wrong_constants_are_named(samples: Path, fault: str, op: int) -> None:
    table = _table(samples / f"cnn_{fault}.tflite", samples / "cnn.h5")
    assert [row.op for row in table.differing] == [op]
    said = {"zeroed_bias": "has 0 as bias of channel", "negated_channel": "254 steps on channel 5"}
    assert said[fault] in _drawn(table, Sources("m", "k"))


def test_the_command_leaves_with_one_if_something_differs(samples: Path, tmp_path: Path) -> None:
    target = tmp_path / "p.json"
    keras = ("--keras", samples / "cnn.h5")
    done = _run(samples / "cnn_wrong_scale.tflite", *keras, "--json", target)
    assert done.returncode == 1 and done.stdout.startswith(
        "DIFFER: operator 3 ADD 'quant_residual'"
    )
    plain = json.loads(target.read_text())
    assert plain["format"] == "tfldbg.params" and plain["format_version"] == 1
    assert plain["differs"] and plain["reference"]["kind"] == "keras"
    row = next(r for r in plain["tensors"] if r["op"] == 3)
    assert row["status"] == "differ"
    assert set(row["tflite"]) == set(row["nudged"]) == set(row["adjusted"]) == AFFINE
    assert row["tflite"]["scale"] == pytest.approx(1.5 * row["nudged"]["scale"], rel=1e-5)
    assert set(row["trained"]) == {"min", "max"}
    weights = plain["weights"][0]
    assert len(weights["scale"]) == len(weights["reference_min"]) == len(weights["ratio"]) == 24
    assert weights["weights"]["wrong"] == 0 and weights["bias"]["wrong"] == 0


def test_json_on_stdout_is_all_there_is_and_nothing_differs(samples: Path) -> None:
    done = _run(samples / "cnn.tflite", "--json", "-")
    assert done.returncode == 0
    plain = json.loads(done.stdout)
    assert plain["reference"] is None and not plain["differs"]
    assert plain["tensors"][1]["tflite"]["max"] > 0 and plain["tensors"][1]["nudged"] is None


def test_the_tables_fit_a_hundred_columns(samples: Path) -> None:
    for keras in (samples / "cnn.h5", None):
        table = _table(samples / "cnn.tflite", keras)
        for everything in (False, True):
            text = _drawn(table, Sources("m.tflite", str(keras) if keras else None), everything)
            tables = text[text.index(" op ") :]
            assert max(map(len, tables.splitlines())) <= 100
            assert "depthwise_relu" in text
    assert _drawn(table, Sources("m"), True).count("\n") > 150  # a line for every channel


def test_another_file_can_be_the_reference(samples: Path) -> None:
    bad, good = (load(samples / f"{n}.tflite").subgraph for n in ("cnn_wrong_scale", "cnn"))
    wanted = {t.index: expected_by_file(t, good.tensors[t.index]) for t in bad.tensors}
    rows = tensor_rows(bad, wanted)
    assert [row.op for row in rows if row.status == "differ"] == [3]
    table = ParameterTable(rows, (), True)
    sources = Sources("bad.tflite", "good.tflite", "tflite")
    assert "reference good.tflite (tflite)" in _drawn(table, sources)
    assert params_to_dict(table, sources)["reference"]["kind"] == "tflite"


def test_a_shifted_zero_point_has_no_excuse(samples: Path, tmp_path: Path) -> None:
    file = plant.File((samples / "cnn.tflite").read_bytes())
    plant.shift_zero_point(3)(file, 9)
    path = tmp_path / "shifted.tflite"
    path.write_bytes(file.save())
    table = _table(path, samples / "cnn.h5")
    assert [row.op for row in table.differing] == [9]


@pytest.mark.parametrize(
    ("ends", "scale", "zero_point", "low", "high"),
    [
        ((-1.0, 1.0), 2 / 255, 127, -254 / 255, 256 / 255),  # a tie: nudge says 128
        ((1.0, 3.0), 3 / 255, 0, 0.0, 3.0),  # widened to zero: nudge keeps the width 2
        ((-3.0, -1.0), 3 / 255, 255, -3.0, 0.0),
        ((0.0, 0.0), 0.0, 0, 0.0, 0.0),
    ],
)
def test_adjusted_ranges_are_widened_to_zero(
    ends: tuple[float, float], scale: float, zero_point: int, low: float, high: float
) -> None:
    adjusted = quant.adjust(*ends)
    assert adjusted == pytest.approx((scale, zero_point, low, high), rel=1e-6)
    nudged = quant.nudge(*ends)
    if ends[0] > 0:
        assert nudged.scale == pytest.approx(2 / 255) and nudged.maximum == pytest.approx(2.0)


def test_adjusting_and_nudging_agree_on_ranges_that_hold_zero() -> None:
    generator = np.random.default_rng(0)
    lows, highs = -generator.uniform(0, 9, 500), generator.uniform(0, 9, 500)
    pairs = [(quant.nudge(a, b), quant.adjust(a, b)) for a, b in zip(lows, highs, strict=True)]
    assert all(nudged.scale == adjusted.scale for nudged, adjusted in pairs)
    assert sum(n.zero_point == a.zero_point for n, a in pairs) >= 495  # others: a tie in float32
    assert all(abs(n.zero_point - a.zero_point) <= 1 for n, a in pairs)
