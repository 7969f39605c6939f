"""Models that keep a state: sample by sample, and over streams of several steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tfldbg
from sample_models import plant
from tests.svdf_file import svdf_file
from tfldbg import session
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.report.terminal import plain_text
from tfldbg.session.diffing import diff

STEPS = 5
WAKE_WORD = "mww_okay_nabu_stream_int8.tflite"


def outputs(model: bytes, data: np.ndarray, steps: int) -> np.ndarray:
    """Run LiteRT directly: a new interpreter for each stream."""
    found = []
    for number, sample in enumerate(data):
        if number % steps == 0:
            interpreter = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.stack(found)


@pytest.fixture(scope="module")
def wake_word(shared_models: Path) -> bytes:
    """A streaming keyword spotter: six resource variables and CALL_ONCE."""
    return (shared_models / "tflite" / WAKE_WORD).read_bytes()


def given(model: bytes, count: int, seed: int = 0) -> np.ndarray:
    interpreter = Interpreter(model_content=model)
    details = interpreter.get_input_details()[0]
    generator = np.random.default_rng(seed)
    if details["dtype"] is np.int8:
        return generator.integers(-128, 128, (count, *details["shape"])).astype(np.int8)
    return generator.normal(size=(count, *details["shape"])).astype(np.float32)


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("name", ["variable", "resource"])
def test_every_stream_begins_anew(
    name: str, steps: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = svdf_file() if name == "variable" else request.getfixturevalue("wake_word")
    data = given(model, 12)
    run = tfldbg.record(model, tmp_path / "run.h5", data=data, steps=steps)
    assert run.observer_identical and run.stream_steps == steps
    final = Interpreter(model_content=model).get_output_details()[0]["index"]
    with h5py.File(tmp_path / "run.h5") as file:
        recorded = file[f"tensors/{final:05d}/values"][:]
    np.testing.assert_array_equal(recorded, outputs(model, data, steps))


@pytest.mark.parametrize("steps", [1, STEPS])
def test_sound_streams_are_clean(steps: int, wake_word: bytes) -> None:
    for model in (svdf_file(), wake_word):
        result = tfldbg.trace(model, samples=12, steps=steps)
        assert result.verdict == "clean", result.diagnosis.sentence
        assert result.evidence.run.observer_identical
        final = result.evidence.ops[-1].accumulated
        assert final is not None and final.max_abs < 0.02
    checked = result.evidence.covered
    reads = {o.op for o in result.evidence.ops if o.kind == "READ_VARIABLE"}
    assert bool(reads & checked) == (steps > 1) and (reads <= checked) == (steps > 1)


def test_the_free_copies_keep_a_state_of_their_own(wake_word: bytes) -> None:
    result = tfldbg.trace(wake_word, samples=12, steps=STEPS)
    drift = {o.op: o.accumulated.max_lsb or 0.0 for o in result.evidence.ops if o.accumulated}
    reads = [o.op for o in result.evidence.ops if o.kind == "READ_VARIABLE"]
    # Given the file's own state they would not differ at all.
    assert max(drift[op] for op in reads) > 0.5


def _later_weights(file: plant.File) -> int:
    """Negate what SVDF's unit 2 makes of the values of earlier steps."""
    weights = file.values(0, 2)
    weights[2, :3] *= -1
    file.set_values(0, 2, weights)
    return 0


def _stale(file: plant.File) -> int:
    """Store in a variable what it holds already."""
    read = next(i for i in range(file.count) if file.kind(i) == "READ_VARIABLE")
    handle, value = file.op(read).inputs[0], file.op(read).outputs[0]
    assign = next(
        i
        for i in range(file.count)
        if file.kind(i) == "ASSIGN_VARIABLE" and file.op(i).inputs[0] == handle
    )
    file.op(assign).inputs = [handle, value]
    return read


def _planted(model: bytes, change: Callable[[plant.File], int]) -> tuple[bytes, int]:
    file = plant.File(model)
    op = change(file)
    return file.save(), op


def _local(result: tfldbg.Trace, op: int) -> float:
    """The largest difference of an operator's own output, real units."""
    stats = next(o.local for o in result.evidence.ops if o.op == op)
    return stats.max_abs if stats is not None else 0.0


def test_weights_of_earlier_steps_show_in_streams_alone() -> None:
    bad, op = _planted(svdf_file(), _later_weights)
    alone = tfldbg.trace(bad, against=svdf_file(), samples=10)
    assert _local(alone, op) == 0
    streamed = tfldbg.trace(bad, against=svdf_file(), samples=10, steps=STEPS)
    assert streamed.origins == (op,) and _local(streamed, op) > 0.1
    stats = streamed.evidence.ops[0].local
    assert stats is not None and stats.worst_sample is not None
    assert stats.worst_sample % STEPS > 0 and stats.first_sample_max_abs == 0
    assert stats.worst_channel == 2


def test_a_sweep_runs_streams_too(tmp_path: Path) -> None:
    bad, _ = _planted(svdf_file(), _later_weights)
    model, sound = tmp_path / "bad.tflite", tmp_path / "sound.tflite"
    model.write_bytes(bad)
    sound.write_bytes(svdf_file())
    errors = []
    for steps in (1, STEPS):
        run_on = RunOn(samples=STEPS, steps=steps)
        models = session.Models(str(model), Against(against=str(sound)), run_on)
        (row,) = session.sweep(session.plan([models]))
        assert row.found is not None, row.error
        errors.append(row.found.figures.output_max_abs)
    assert errors[0] == 0 and errors[1] > 0.1


def test_a_state_that_is_never_written_is_named(wake_word: bytes) -> None:
    bad, op = _planted(wake_word, _stale)
    alone = tfldbg.trace(bad, against=wake_word, samples=4)
    assert alone.verdict == "clean"
    streamed = tfldbg.trace(bad, against=wake_word, samples=2 * STEPS, steps=STEPS)
    assert streamed.origins[0] == op, streamed.diagnosis.sentence


@pytest.mark.parametrize("reference", ["kernels", "recording", "emulated", "float-ranges"])
def test_every_reference_follows_the_streams(
    reference: str, wake_word: bytes, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"samples": 2 * STEPS + 2, "steps": STEPS}
    if reference == "kernels":
        result = tfldbg.trace(wake_word, against_runtime="reference", **options)
    elif reference == "recording":
        path = tmp_path / "run.h5"
        tfldbg.record(wake_word, path, runtime="reference", **options)
        result = tfldbg.trace(wake_word, against=path, **options)
    else:
        result = tfldbg.trace(wake_word, reference=reference, **options)
    assert result.verdict == "clean", result.diagnosis.sentence
    final = result.evidence.ops[-1].accumulated
    assert final is not None and (final.max_lsb or 0) <= 12


def test_a_function_gets_one_stream_a_call() -> None:
    model, data = svdf_file(), given(svdf_file(), 2 * STEPS + 1)
    calls = []

    def reference(x: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(x))
        return {"t1": outputs(model, x[:, None], len(x))[:, 0]}

    result = tfldbg.trace(
        model, reference=lambda given: reference(given["t0"]), data=data, steps=STEPS
    )
    assert calls == [STEPS, STEPS, 1]
    final = result.evidence.ops[-1].accumulated
    assert result.verdict == "clean" and final is not None and final.max_abs == 0


def test_a_recording_of_other_streams_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    tfldbg.record(svdf_file(), path, samples=6, steps=3)
    with pytest.raises(tfldbg.CaptureError, match="but this run has --steps 1") as caught:
        tfldbg.trace(svdf_file(), against=path)
    assert caught.value.hint == "trace with the same steps: --steps 3"
    assert tfldbg.trace(svdf_file(), against=path, steps=3).verdict == "clean"
    other = tmp_path / "other.h5"
    tfldbg.record(svdf_file(), other, samples=6)
    notes = diff(path, other).evidence.run.notes
    assert any("recorded with --steps 3" in note for note in notes)


def test_what_streams_are_not_for(samples: Path, wake_word: bytes) -> None:
    with pytest.raises(tfldbg.UsageError, match="a Keras model is computed sample by sample"):
        tfldbg.trace(wake_word, keras=samples / "cnn.h5", steps=2)
    with pytest.raises(tfldbg.UsageError, match="--compounding follows errors through one run"):
        tfldbg.trace(wake_word, compounding=True, steps=2)
    with pytest.raises(tfldbg.UsageError, match="invalid value 0 for --steps: must be at least 1"):
        tfldbg.trace(wake_word, steps=0)
    stateless = tfldbg.trace(samples / "cnn.tflite", samples=2, steps=2)
    assert "the file keeps no state" in stateless.evidence.run.notes[0]


def test_what_reports_say_of_streams() -> None:
    bad, _ = _planted(svdf_file(), _later_weights)
    result = tfldbg.trace(bad, against=svdf_file(), samples=12, steps=STEPS, worst=1)
    plain = result.to_dict()
    assert (plain["samples"], plain["stream_steps"]) == (12, STEPS)
    run = result.evidence.run
    assert run.extent == "12 samples: 2 streams of 5 steps and one of 2"
    worst = result.evidence.measures["worst"][0].sample
    assert run.place(worst) == f"{worst} (stream {worst // 5}, step {worst % 5})"
    text = plain_text(result)
    assert f"sample {run.place(worst)}: " in text and run.extent in text
