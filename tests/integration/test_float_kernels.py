"""Which kernels compute float copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from tfldbg.against.parts import float_copies
from tfldbg.compare import float_kernels
from tfldbg.compare.copies import Shadow
from tfldbg.compare.float_kernels import XNNPACK, computed_apart, float_shadow, whole_kernels
from tfldbg.compare.stream import some_samples
from tfldbg.match.steps import own_steps
from tfldbg.options.run_on import RunOn
from tfldbg.run.derived import FLOAT_KERNELS
from tfldbg.run.job import Job, prepare
from tfldbg.run.litert import Runner


def _built(path: Path) -> tuple[Job, Shadow]:
    job = prepare(path, RunOn(samples=1))
    with Runner(job.instrumented) as runner:
        first = some_samples(job, runner, 1)
    steps = own_steps(job.subgraph, job.readable).steps
    return job, float_shadow(job.loaded, steps, first)


def test_copies_of_quantized_operators_run_under_xnnpack(samples: Path) -> None:
    _, built = _built(samples / "cnn.tflite")
    assert [part.program.kernels for part in built.parts] == [XNNPACK]
    assert whole_kernels(built) == XNNPACK and computed_apart(built) == ()


def test_a_float_file_is_not_compared_with_the_kernels_that_run_it(shared_models: Path) -> None:
    _, built = _built(shared_models / "tflite" / "tflite2onnx_mobilenet_v1_025_f32.tflite")
    assert {part.program.kernels for part in built.parts} == {FLOAT_KERNELS}
    assert whole_kernels(built) == FLOAT_KERNELS


@pytest.fixture
def wrong_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """XNNPACK's softmax computes something else."""
    values = float_kernels._values

    def other(part: object, first: object) -> dict[int, NDArray[np.float32]]:
        found = dict(values(part, first))  # type: ignore[arg-type]
        if part.program.kernels == XNNPACK and max(found) in found:  # type: ignore[attr-defined]
            found[max(found)] = found[max(found)] + np.float32(0.01)
        return found

    monkeypatch.setattr(float_kernels, "_values", other)


def test_an_operator_that_xnnpack_computes_differently_runs_under_the_others(
    samples: Path, wrong_softmax: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, built = _built(samples / "cnn.tflite")
    assert [part.program.kernels for part in built.parts] == [XNNPACK, FLOAT_KERNELS]
    (last,) = built.apart
    assert built.parts[1].model.results == job.subgraph.operators[last].outputs
    assert whole_kernels(built) == FLOAT_KERNELS
    assert not tfldbg.trace(samples / "cnn.tflite", samples=12).evidence.run.notes
    monkeypatch.setattr(float_copies, "_WORTH", 0)
    result = tfldbg.trace(samples / "cnn.tflite", samples=12)
    assert result.verdict == "clean"
    assert any(f"float copies of operators {last} differ" in n for n in result.evidence.run.notes)
