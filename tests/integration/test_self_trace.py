"""The trace without a reference: silent on sound files, right on what a file betrays by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from sample_models import plant
from tests.schema import assert_documented
from tests.sound import assert_sound

SOUND = ["cnn", "dense4", "dense4_nobias", "dense5_nobias", "dense5_nobias_ptq"]
SHARED = [
    "aeq_mnist_weight_only.tflite",
    "coral_mobilenet_v1_025_128_uint8.tflite",
    "litert_mixed16x8.tflite",
    "litert_qwen_fc_blockwise_int4.tflite",
    "mlperf_ad_dynrange.tflite",
    "mww_okay_nabu_stream_int8.tflite",
    "seanet_conv10_int16x8.tflite",
    "tflm_dtln_lstm_int8.tflite",
    "aeq_fc_i4valued_channel.tflite",
]


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sample_is_clean(name: str, runtime: str, samples: Path) -> None:
    result = tfldbg.trace(samples / f"{name}.tflite", samples=4, runtime=runtime)
    assert_sound(result, name)
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["reference"]["kind"] == "self"
    assert plain["data"] == "random"
    assert {op["status"] for op in plain["ops"]} == {"ok"}


@pytest.mark.parametrize("name", SHARED)
def test_a_sound_file_of_every_scheme_is_clean(name: str, shared_models: Path) -> None:
    result = tfldbg.trace(shared_models / "tflite" / name, samples=2)
    assert_sound(result, name)
    checked = [o for o in result.evidence.ops if o.local is not None]
    assert checked


def test_kernels_that_yield_zeros_are_found(shared_models: Path) -> None:
    """BATCH_MATMUL of int16 by int8 ignores scales per channel and yields zeros everywhere."""
    path = shared_models / "tflite" / "litert_w8a16_attn_vec.tflite"
    found = tfldbg.trace(path, samples=1).first_divergence
    assert found is not None and found.kind == "BATCH_MATMUL" and found.signal == "local"


def test_the_accumulated_error_is_divided(samples: Path) -> None:
    data = samples / "digits.npz"
    result = tfldbg.trace(samples / "cnn.tflite", data=data, samples=8)
    for op in result.evidence.ops:
        assert op.split is not None and op.accumulated is not None
        assert op.accumulated.rmse_lsb is not None
        parts = op.split.saturation + op.split.rounding + op.split.kernel
        assert op.accumulated.rmse_lsb <= parts + 1e-6


def _broken(samples: Path, name: str) -> bytes:
    """Plant what a file betrays by itself in the CNN."""
    file = plant.File((samples / "cnn.tflite").read_bytes())
    if name == "bias scale":
        bias = file.tensor(file.op(8).inputs[2]).quantization
        bias.scale = np.asarray(bias.scale) * np.float32(1.5)
    elif name == "zero point":
        plant.shift_zero_point(300)(file, 8)
    elif name == "scale":
        file.output(8).quantization.scale = np.array([-1.0], np.float32)
    elif name == "softmax":
        plant.scale_output(1.5)(file, 11)
    return file.save()


@pytest.mark.parametrize(
    ("name", "op"), [("bias scale", 8), ("zero point", 8), ("scale", 8), ("softmax", 11)]
)
def test_a_file_that_breaks_a_rule_names_its_operator(name: str, op: int, samples: Path) -> None:
    try:
        result = tfldbg.trace(_broken(samples, name), samples=2, runtime="reference")
    except tfldbg.RunError as error:
        assert f"without running it, operator {op} " in error.message
    else:
        assert result.origins[0] == op, result.diagnosis.sentence


def test_the_first_nan_is_named(shared_models: Path) -> None:
    file = plant.File((shared_models / "tflite" / "aeq_conv_fc_mnist_float.tflite").read_bytes())
    fully_connected = next(
        i for i in range(len(file.subgraph.operators)) if file.kind(i) == "FULLY_CONNECTED"
    )
    weights = file.values(fully_connected, 1)
    weights.reshape(-1)[0] = np.nan
    file.set_values(fully_connected, 1, weights)
    result = tfldbg.trace(file.save(), samples=2)
    assert result.origins[0] == fully_connected, result.diagnosis.sentence


def test_tensorflow_is_never_imported(samples: Path) -> None:
    code = (
        "import sys, tfldbg\n"
        "result = tfldbg.trace(sys.argv[1], samples=1)\n"
        "assert not {'tensorflow', 'tf_keras', 'h5py'} & set(sys.modules), 'heavy'\n"
        "assert result.verdict == 'clean'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(samples / "cnn.tflite")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
