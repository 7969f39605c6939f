"""``tfldbg params --data``: whose ranges a file follows, on files whose origin is known."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tfldbg.compare.ranges.calibrate import FAKE_QUANT_PASS, FLOAT_PASS
from tfldbg.compare.ranges.following import KERAS_PASS, TRAINED, Likeness
from tfldbg.compare.ranges.parameters import ParameterTable
from tfldbg.compare.ranges.table import RangeTable
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.report.params import Sources, draw_params, params_to_dict
from tfldbg.session import compare_parameters

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Made:
    """Files that were made from one float model and one set of data."""

    folder: Path
    data: np.ndarray
    """(60, 28, 28) float32: what calibrated the files of post-training quantization, and what the
    observers of the QAT model saw in one batch."""

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Made:
    import tensorflow as tf
    import tf_keras as k

    folder = tmp_path_factory.mktemp("ranges")
    data = np.load(samples / "digits.npz")["x"][:60].astype(np.float32)
    model = k.models.load_model(samples / "dense5_nobias_ptq.h5", compile=False)
    ops = tf.lite.OpsSet
    wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    for name, kind in (("ptq", ops.TFLITE_BUILTINS_INT8), ("ptq16", wide)):
        (folder / f"{name}.tflite").write_bytes(_convert(model, data, kind))
    qat = _observed(model, data)
    qat.save(folder / "qat.h5", include_optimizer=False)
    (folder / "qat.tflite").write_bytes(_convert(qat, None, None))
    return Made(folder, data)


def _convert(model: Any, data: np.ndarray | None, kind: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if data is not None:

        def examples() -> Iterator[list[np.ndarray]]:
            yield from ([image[None]] for image in data)

        converter.representative_dataset = examples
        converter.target_spec.supported_ops = [kind]
    return bytes(converter.convert())


def _observed(model: Any, data: np.ndarray) -> Any:
    """Quantize a model for training, with observers that keep all values, and let it see data."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    usual = registry.quantizers.MovingAverageQuantizer
    registry.quantizers.MovingAverageQuantizer = (
        tfmot.quantization.keras.quantizers.AllValuesQuantizer
    )
    try:
        qat = tfmot.quantization.keras.quantize_model(model)
        qat(tf.constant(data), training=True)
    finally:
        registry.quantizers.MovingAverageQuantizer = usual
    return qat


def _ranges(model: Path, data: Any, keras: Path | None = None) -> RangeTable:
    found = compare_parameters(model, against=Against(keras=keras), run_on=RunOn(data=data)).ranges
    assert found is not None
    return found


def _of(ranges: RangeTable, source: str) -> Likeness:
    return next(x for x in ranges.likenesses if x.source == source)


def test_post_training_ranges_are_those_of_a_float_pass(made: Made) -> None:
    """Exactly, where the float model runs the pass; up to the weights' rounding without it."""
    model = made.path("ptq.tflite")
    exact = _ranges(model, made.data, ROOT / "sample_models" / "dense5_nobias_ptq.h5")
    assert exact.following.source == KERAS_PASS and exact.samples == 60
    found = _of(exact, KERAS_PASS)
    assert found.equal == found.compared == 6
    assert _of(exact, FAKE_QUANT_PASS).equal < 6
    alone = _ranges(model, made.data)
    assert _of(alone, FLOAT_PASS).close == 6
    assert alone.following.source is None
    assert "no pass gives them exactly" in alone.following.sentence


def test_the_wide_activations_of_16x8_are_symmetric(made: Made) -> None:
    found = _of(_ranges(made.path("ptq16.tflite"), made.data), FLOAT_PASS)
    assert found.close == found.zero_points == found.compared >= 6
    assert found.equal >= 1  # the input's, in which no weight has a part


def test_observers_that_keep_all_values_see_the_fake_quantized_pass(made: Made) -> None:
    model = made.path("qat.tflite")
    alone = _ranges(model, made.data)
    found = _of(alone, FAKE_QUANT_PASS)
    assert alone.following.source == FAKE_QUANT_PASS and alone.settled
    assert found.equal == found.compared == 6
    assert _of(alone, FLOAT_PASS).equal < 6
    trained = _ranges(model, made.data, made.path("qat.h5"))
    assert trained.following.source == TRAINED and not trained.by_keras
    assert _of(trained, TRAINED).equal == _of(trained, TRAINED).compared == 6


def test_a_qat_file_follows_its_trained_ranges(samples: Path) -> None:
    model, data = samples / "dense5_nobias.tflite", samples / "digits.npz"
    found = _ranges(model, data, samples / "dense5_nobias.h5")
    assert found.following.source == TRAINED and found.samples == 300
    assert found.following.sentence.startswith(
        "the parameters follow the trained ranges of the Keras model (6 of 6 equal)"
    )
    assert _ranges(model, data).following.source is None  # moving averages of other digits


def test_a_file_that_was_calibrated_on_other_data_follows_none(samples: Path) -> None:
    data = samples / "digits.npz"
    found = _ranges(samples / "dense5_nobias_ptq.tflite", data)
    assert found.following.source is None
    assert "they come from other data" in found.following.sentence


def test_the_table_and_the_json_show_both_passes(made: Made) -> None:
    table = compare_parameters(made.path("qat.tflite"), run_on=RunOn(data=made.data, samples=9))
    assert table.ranges is not None and table.ranges.samples == 9
    text = _drawn(table)
    assert "data      arrays, 9 samples" in text and "float pass" in text
    tables = text[text.index(" op ") : text.index("\nThe parameters follow")]
    assert max(map(len, tables.splitlines())) <= 100
    plain = json.loads(json.dumps(params_to_dict(table, Sources("m"))))
    assert plain["ranges"]["follows"] == table.ranges.following.source
    assert [c["source"] for c in plain["ranges"]["candidates"]] == [FLOAT_PASS, FAKE_QUANT_PASS]
    assert plain["tensors"][0]["float_pass"] is None  # a float input has no parameters
    row = next(r for r in plain["tensors"] if r["kind"] == "FULLY_CONNECTED")
    assert set(row["fake_quant_pass"]) >= {"scale", "zero_point", "min", "max", "ratio", "fixed"}
    assert row["float_pass"]["ratio"] == pytest.approx(
        row["tflite"]["scale"] / row["float_pass"]["scale"]
    )


def _drawn(table: ParameterTable) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    draw_params(table, Sources("m"), False, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_fixed_range_is_shown_as_such(samples: Path) -> None:
    data = samples / "digits.npz"
    table = compare_parameters(samples / "cnn.tflite", run_on=RunOn(data=data, samples=2))
    assert table.ranges is not None
    plain = params_to_dict(table, Sources("m"))
    assert [r["op"] for r in plain["tensors"] if r["float_pass"]["fixed"]] == [11]
    assert "fixed" in _drawn(table)


def test_the_command_takes_data_and_says_what_is_wrong_with_it(samples: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tfldbg", "params", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    model = samples / "dense4.tflite"
    done = run(model, "--data", samples / "digits.npz", "--samples", 5, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ranges"]["samples"] == 5
    missing = run(model, "--data", "nothing.npz")
    assert missing.returncode == 2 and "does not exist" in missing.stderr
    pointless = run(model, "--samples", 5)
    assert pointless.returncode == 2 and "--data" in pointless.stderr
