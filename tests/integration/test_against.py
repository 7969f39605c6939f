"""Another .tflite, or other kernels, as the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

import tfldbg
from benchmarks import zoo
from benchmarks.zoo import Scheme
from sample_models import plant
from tests.schema import assert_documented

SAMPLES = Path(__file__).parents[2] / "sample_models"
FAULTS = {
    name: int(fault["op"])
    for name, fault in json.loads((SAMPLES / "faults.json").read_text()).items()
}


def _stripped(data: bytes) -> bytes:
    file = plant.File(data)
    flatbuffer_utils.strip_strings(file.model)
    return file.save()


def _reordered(data: bytes) -> bytes:
    """Exchange the two branches, which do not depend on each other."""
    file = plant.File(data)
    ops = file.subgraph.operators
    ops[4], ops[5] = ops[5], ops[4]
    return file.save()


@pytest.mark.parametrize("change", [bytes, _stripped, _reordered])
@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_operator_is_named(name: str, change: object, samples: Path) -> None:
    good = (samples / "cnn.tflite").read_bytes()
    broken = (samples / name).read_bytes()
    given = change(good)  # type: ignore[operator]
    data = samples / "digits.npz"
    result = tfldbg.trace(broken, against=given, data=data, samples=4)
    assert result.origins == (FAULTS[name],), result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0


@pytest.mark.parametrize("change", [bytes, _stripped, _reordered])
def test_the_same_model_is_clean(change: object, samples: Path) -> None:
    good = (samples / "cnn.tflite").read_bytes()
    result = tfldbg.trace(change(good), against=good, samples=4)  # type: ignore[operator]
    assert result.verdict == "clean", result.diagnosis.sentence
    assert_documented(result.to_dict())
    assert result.to_dict()["reference"]["kind"] == "tflite"


def test_two_faults_are_both_named(samples: Path) -> None:
    good = (samples / "cnn.tflite").read_bytes()
    file = plant.File(good)
    plant.zero_bias(file, 1)
    plant.negate_channel(3)(file, 8)
    result = tfldbg.trace(file.save(), against=good, data=samples / "digits.npz", samples=4)
    assert result.origins == (1, 8)


def test_one_bad_channel_is_not_averaged_away(samples: Path) -> None:
    good = (samples / "cnn.tflite").read_bytes()
    file = plant.File(good)
    bias = file.values(8, 2)
    bias[7] += np.int32(
        round(0.03 / float(file.tensor(file.op(8).inputs[2]).quantization.scale[7]))
    )
    file.set_values(8, 2, bias)
    found = tfldbg.trace(file.save(), against=good, samples=2).first_divergence
    assert found is not None and found.op == 8 and "channel 7" in found.message


def test_files_that_were_calibrated_differently_are_compared_by_arithmetic(samples: Path) -> None:
    qat, after = samples / "dense5_nobias.tflite", samples / "dense5_nobias_ptq.tflite"
    result = tfldbg.trace(after, against=qat, samples=4)
    assert any("calibrated differently" in note for note in result.evidence.run.notes)


def test_another_model_is_refused(samples: Path) -> None:
    with pytest.raises(tfldbg.MatchError):
        tfldbg.trace(samples / "cnn.tflite", against=samples / "dense4.tflite", samples=1)


@pytest.mark.parametrize("other", ["builtin", "reference"])
def test_two_kernel_sets_agree_within_a_step(other: str, samples: Path) -> None:
    result = tfldbg.trace(samples / "cnn.tflite", against_runtime=other, samples=4)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert_documented(result.to_dict())
    assert result.to_dict()["reference"]["kind"] == "runtime"
    assert max(o.local.max_lsb or 0 for o in result.evidence.ops if o.local) < 1.01


def test_a_kernel_that_disagrees_is_named(shared_models: Path) -> None:
    """The reference kernel knows no blockwise weights and yields zeros."""
    path = shared_models / "tflite" / "litert_qwen_fc_blockwise_int4.tflite"
    result = tfldbg.trace(path, against_runtime="reference", samples=1)
    assert result.origins == (0,)


@pytest.mark.parametrize("other", ["xnnpack", "gpu"])
def test_a_runtime_that_is_none_or_the_same_is_refused(other: str, samples: Path) -> None:
    with pytest.raises(tfldbg.UsageError, match="must be another runtime") as caught:
        tfldbg.trace(samples / "cnn.tflite", against_runtime=other)
    assert caught.value.hint is not None and "builtin" in caught.value.hint


@pytest.fixture(scope="module")
def gated() -> dict[str, bytes]:
    """Files of one model with a function between its products and one at its end."""
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((6,))
    seen = k.layers.Dense(8, activation="tanh")(given)
    model = k.Model(given, k.layers.Dense(3, activation="sigmoid")(seen))
    return {form: zoo.convert(model, form) for form in ("float32", "float16", "ptq")}


@pytest.mark.parametrize("form", ["float16", "ptq"])
@pytest.mark.parametrize(("kind", "other"), [("LOGISTIC", "TANH"), ("TANH", "LOGISTIC")])
def test_a_function_in_the_stead_of_another_is_named(
    form: Scheme, kind: str, other: str, gated: dict[str, bytes]
) -> None:
    good = gated["float32"]
    assert tfldbg.trace(gated[form], against=good).verdict == "clean"
    file = plant.File(gated[form])
    op = next(i for i in range(file.count) if file.kind(i) == kind)
    plant.set_kind(other)(file, op)
    result = tfldbg.trace(file.save(), against=good)
    assert result.origins[0] == op
    assert form == "ptq" or (result.cause is not None and kind in result.cause.message)


def test_a_file_with_a_type_that_the_schema_does_not_know_is_no_reference(samples: Path) -> None:
    file = plant.File((samples / "dense4.tflite").read_bytes())
    file.tensor(file.op(0).inputs[1]).type = -1
    with pytest.raises(tfldbg.ModelError, match="is of type -1"):
        tfldbg.trace(samples / "dense4.tflite", against=file.save(), samples=1)
