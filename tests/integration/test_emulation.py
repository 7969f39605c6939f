"""The emulations as references: silent on sound files, and as telling as the self trace."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from sample_models import plant
from tests import odd_files
from tests.integration.test_self_trace import _broken
from tests.schema import assert_documented
from tfldbg.compare.ranges.calibrate import share
from tfldbg.compare.ranges.passes import Copy, fake_quant_pass, float_extents
from tfldbg.options.against import EMULATED, EMULATIONS
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import prepare
from tfldbg.run.litert import Runner

SOUND = ["cnn", "dense4", "dense4_nobias", "dense5_nobias", "dense5_nobias_ptq"]
RUNTIMES = ["xnnpack", "builtin", "reference"]
# The runtime has no part in how ranges are computed, so one network stands for all there.
CASES = [
    (name, kind, runtime)
    for kind in EMULATIONS
    for name in SOUND
    for runtime in RUNTIMES
    if kind == EMULATED or name == "cnn" or runtime == "xnnpack"
]


def _origins(model: bytes | Path, kind: str | None) -> tuple[int, ...]:
    """The operators that are named, if only in the error that the runtime refuses the file."""
    try:
        return tfldbg.trace(model, samples=1, runtime="reference", reference=kind).origins
    except tfldbg.RunError as error:
        found = re.search(r"without running it, operator (\d+) ", error.message)
        return (int(found[1]),) if found else ()


@pytest.fixture(scope="module")
def broken(samples: Path) -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Files with a planted fault, and what the self trace names in them."""
    names = json.loads((samples / "faults.json").read_text())
    files = {name: (samples / name).read_bytes() for name in names}
    files |= {name: _broken(samples, name) for name in ("bias scale", "zero point", "softmax")}
    found = {name: (model, _origins(model, None)) for name, model in files.items()}
    assert [name for name, (_, origins) in found.items() if origins] == [
        "cnn_wrong_scale.tflite",
        "bias scale",
        "zero point",
        "softmax",
    ]
    return found


@pytest.mark.parametrize(("name", "kind", "runtime"), CASES)
def test_a_sound_sample_is_clean(name: str, kind: str, runtime: str, samples: Path) -> None:
    result = tfldbg.trace(
        samples / f"{name}.tflite",
        data=samples / "digits.npz",
        samples=2,
        runtime=runtime,
        reference=kind,
    )
    assert result.verdict == "clean", result.diagnosis.sentence
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["reference"]["kind"] == kind
    assert {op["status"] for op in plain["ops"]} == {"ok"}
    for op in plain["ops"]:
        assert op["accumulated"] is not None and op["local"] is not None
        assert op["local"]["max_lsb"] == pytest.approx(round(op["local"]["max_lsb"]), abs=1e-3)


@pytest.mark.parametrize("kind", EMULATIONS)
def test_planted_faults_are_named_where_the_self_trace_names_them(
    kind: str, broken: dict[str, tuple[bytes, tuple[int, ...]]]
) -> None:
    for name, (model, origins) in broken.items():
        assert _origins(model, kind) == origins, name


@pytest.mark.parametrize("kind", EMULATIONS)
def test_kernels_that_yield_zeros_are_found(kind: str, shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_w8a16_attn_vec.tflite"
    found = tfldbg.trace(path, samples=1, reference=kind).first_divergence
    assert found is not None and found.kind == "BATCH_MATMUL" and found.signal == "local"


def test_the_emulation_is_nearer_than_float_arithmetic(samples: Path) -> None:
    """What is left when the file's own rounding is taken out: what its kernels round otherwise."""
    model, data = samples / "cnn.tflite", samples / "digits.npz"
    alone = tfldbg.trace(model, data=data, samples=8)
    emulated = tfldbg.trace(model, data=data, samples=8, reference="emulated")
    for one, other in zip(alone.evidence.ops, emulated.evidence.ops, strict=True):
        assert one.accumulated and other.accumulated and one.split and one.accumulated.rmse_lsb
        assert other.accumulated.rmse_lsb == pytest.approx(one.split.kernel, abs=1e-6)
        assert other.accumulated.rmse_lsb < one.accumulated.rmse_lsb / 2


def test_computed_parameters_are_shown_and_are_no_fault(samples: Path) -> None:
    data = samples / "digits.npz"
    path = samples / "dense5_nobias.tflite"  # trained ranges: narrower than the data's
    result = tfldbg.trace(path, data=data, samples=8, reference="float-ranges")
    ops = result.to_dict()["ops"]
    assert result.verdict == "clean" and {op["parameters"] for op in ops} == {"computed"}
    ratios = [op["scale"] / op["expected_parameters"][0] for op in ops[1:]]
    assert max(abs(r - 1) for r in ratios) > 0.02
    assert any("zero points equal" in note for note in result.evidence.run.notes)


def test_what_lies_beyond_the_range_is_still_counted(samples: Path) -> None:
    """Rounding must not hide saturation: a narrowed range clips."""
    file = plant.File((samples / "dense4_nobias.tflite").read_bytes())
    plant.scale_output(0.25)(file, 4)
    data = samples / "digits.npz"
    for kind in (None, "emulated"):
        result = tfldbg.trace(file.save(), data=data, samples=8, reference=kind)
        last = result.evidence.ops[-1].local
        assert last is not None and last.saturated > 0
        assert "TFL005" in {f.code for f in result.diagnosis.findings}


def test_an_operator_without_a_float_copy_lends_its_values(samples: Path) -> None:
    data = samples / "digits.npz"
    job = prepare(samples / "cnn.tflite", RunOn(data=data, samples=3))
    graph, subgraph = job.loaded.graph, job.subgraph
    out = subgraph.operators[3].outputs[0]
    with Runner(job.instrumented) as runner:

        def actual(number: int) -> dict[int, np.ndarray]:
            return dict(zip(job.exposed.taps, runner.run(job.samples.codes(number)), strict=True))

        copy = Copy(job, {3: "for the test"}, actual)
        sharing = share(graph, subgraph, copy.refused)
        seen = float_extents(copy, sharing, Silent())
        found = fake_quant_pass(copy, sharing, seen, Silent())
    own = subgraph.tensors[out]
    assert (found.parameters[out].scale, found.parameters[out].zero_point) == (
        own.lsb,
        own.zero_point,
    )
    assert found.settled and found.rounds <= len(sharing.free) + 1
    after = subgraph.operators[4].outputs[0]
    assert found.parameters[after].maximum > 0


@pytest.mark.parametrize("kind", EMULATIONS)
def test_a_shape_that_follows_the_values_is_left_out(kind: str) -> None:
    rows = np.array([[1, -1, 1, 1], [1, -1, -1, 1], [-1, -1, -1, -1]], np.float32)
    result = tfldbg.trace(odd_files.found(), data=rows, reference=kind)
    assert result.verdict == "clean"
    where = next(op for op in result.evidence.ops if op.kind == "WHERE")
    assert where.local is None and "shape" in (where.local_reason or "")


def test_a_trace_has_one_reference(samples: Path) -> None:
    model = samples / "cnn.tflite"
    with pytest.raises(tfldbg.UsageError, match="--against-runtime, --reference"):
        tfldbg.trace(model, reference="emulated", against_runtime="builtin")
    with pytest.raises(tfldbg.UsageError, match="--keras, --reference"):
        tfldbg.trace(model, reference="emulated", keras=samples / "cnn.h5")
    with pytest.raises(tfldbg.UsageError, match="there is no reference 'emulate'"):
        tfldbg.trace(model, reference="emulate")
