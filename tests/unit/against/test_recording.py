"""A recording as the reference: what it is refused for, and what is taken from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import WIDTH, ZERO_POINT, FakeRunner, chain_file, chain_values
from tests.unit.captures import capture
from tfldbg.against import recording
from tfldbg.against.opened import Bench, Opened
from tfldbg.against.parts.recorded import SingleOperators
from tfldbg.errors import CaptureError, DataError, MatchError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.reference.capture import Capture, open_capture
from tfldbg.run.job import prepare

KINDS = ("RELU", "NEG")
MODEL = chain_file(*KINDS)
CODES = np.arange(3 * WIDTH, dtype=np.int8).reshape(3, WIDTH) - 4


def _values(codes: NDArray[Any] = CODES) -> dict[str, NDArray[Any]]:
    """What a device recorded, by name."""
    made = chain_values(*KINDS)([codes])
    return {f"t{i}": values for i, values in made.items()}


def _written(folder: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(folder / "run.npz", **arrays)
    return folder / "run.npz"


def _bench(path: Path | str, run_on: RunOn | None = None) -> tuple[Bench, FakeRunner]:
    run_on = run_on or RunOn(data=CODES)
    job = prepare(MODEL, run_on)
    runner: Any = FakeRunner(chain_values(*KINDS), job.exposed.taps)
    return Bench(job, runner, Against(against=path), run_on, Silent()), runner


@pytest.fixture
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute no operator on the recorded inputs, which takes the runtime."""
    nothing = SingleOperators(None, frozenset(), {}, frozenset())
    monkeypatch.setattr(recording, "single_operators", lambda *_: nothing)


def _opened(bench: Bench) -> Opened:
    return recording.KIND.open(bench)


# What to run on.


def test_the_recorded_inputs_are_the_data_where_none_is_given(tmp_path: Path) -> None:
    path = _written(tmp_path, **_values())
    bring = recording.KIND.run_on
    assert bring is not None
    found = bring(MODEL, Against(against=path), RunOn())
    assert isinstance(found.data, dict) and np.array_equal(found.data["t0"], CODES)
    assert found.data["t0"].dtype == np.int8
    few: Any = bring(MODEL, Against(against=path), RunOn(samples=2))
    assert len(few.data["t0"]) == 2
    given = RunOn(data=CODES)
    assert bring(MODEL, Against(against="gone.npz"), given) is given


def test_a_recording_without_an_input_brings_no_data(tmp_path: Path) -> None:
    values = _values()
    del values["t0"]
    bring = recording.KIND.run_on
    assert bring is not None
    with pytest.raises(CaptureError, match="does not hold the model's input 't0'") as caught:
        bring(MODEL, Against(against=_written(tmp_path, **values)), RunOn())
    assert "--data" in str(caught.value.hint)


def test_a_recording_of_another_model_brings_no_data(tmp_path: Path) -> None:
    path = _written(tmp_path, one=CODES, two=CODES, three=CODES)
    bring = recording.KIND.run_on
    assert bring is not None
    with pytest.raises(MatchError, match="is not a recording of this model"):
        bring(MODEL, Against(against=path), RunOn())


# What is refused before anything runs.


def _refused(bench: tuple[Bench, FakeRunner], error: type[Exception], said: str) -> Any:
    with pytest.raises(error, match=said) as caught:
        _opened(bench[0])
    assert bench[1].said == [] and bench[1].runs == []
    return caught.value


def test_fewer_samples_than_the_data_are_refused(tmp_path: Path) -> None:
    path = _written(tmp_path, **_values(CODES[:2]))
    error = _refused(_bench(path), CaptureError, "holds 2 samples, but the data 3")
    assert error.hint.endswith("--samples 2")


@pytest.mark.parametrize("sample", [0, 2])
def test_a_recording_of_other_data_names_the_sample(tmp_path: Path, sample: int) -> None:
    other = CODES.copy()
    other[sample, 1] += 1
    path = _written(tmp_path, **_values(other))
    _refused(_bench(path), DataError, f"sample {sample} of input 't0' is not that of 'arrays'")


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.npz").write_text("no")
    _refused(_bench(tmp_path / "run.npz"), CaptureError, "run.npz")


def test_rounding_to_another_type_is_no_other_data() -> None:
    one = np.array([1, 2], np.int8)
    assert recording._agree(one, one + 1, steps=1) and not recording._agree(one, one + 1, steps=0)
    floats = np.array([1.0, 2.0], np.float32)
    assert recording._agree(floats, floats * np.float32(1 + 1e-7), steps=0)
    assert not recording._agree(floats, floats * np.float32(1.001), steps=1)
    assert not recording._agree(floats, floats[:1], steps=1)


# What is opened.


@pytest.mark.usefixtures("uncut")
def test_each_tensor_is_compared_with_its_recorded_one(tmp_path: Path) -> None:
    values = _values()
    bench, runner = _bench(_written(tmp_path, **values))
    opened = _opened(bench)
    matches = opened.relation.matching.matches
    assert {i: m.raw for i, m in matches.items()} == {0: "t0", 1: "t1", 2: "t2"}
    assert (opened.about.kind, opened.about.traits) == ("capture", recording.TRAITS)
    assert opened.about.sha256 is not None and opened.about.data is None
    computed = opened.reference.compute(bench.first)
    real = (values["t2"][:1].astype(np.float32) - ZERO_POINT) * np.float32(0.05)
    np.testing.assert_allclose(computed.free[2], real, rtol=1e-6)
    assert len(runner.runs) == 1 and not computed.local


@pytest.mark.usefixtures("uncut")
def test_without_data_the_recording_is_where_the_data_came_from(tmp_path: Path) -> None:
    path = _written(tmp_path, **_values())
    bench, _ = _bench(path)
    bench.given = RunOn()
    assert _opened(bench).about.data == str(path)


@pytest.mark.usefixtures("uncut")
def test_what_was_not_recorded_has_a_reason_and_an_input_a_note(tmp_path: Path) -> None:
    values = _values()
    del values["t0"], values["t1"]
    opened = _opened(_bench(_written(tmp_path, **values))[0])
    assert set(opened.relation.reasons) == {0, 1}
    assert opened.relation.matching.unmatched[1].reason == opened.relation.reasons[1]
    assert [note for note in opened.notes if "does not hold 't0'" in note]


def test_a_recording_is_closed_when_it_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Capture] = []
    closed: list[Capture] = []

    def kept(path: Path) -> Capture:
        opened.append(open_capture(path))
        return opened[-1]

    monkeypatch.setattr(recording, "open_capture", kept)
    monkeypatch.setattr(Capture, "close", lambda self: closed.append(self))
    bench, _ = _bench(_written(tmp_path, **_values(CODES[:2])))
    with pytest.raises(CaptureError):
        _opened(bench)
    assert opened and closed == opened


def test_a_recording_of_another_file_says_so_if_it_is_told() -> None:
    values = np.zeros((1, 2), np.float32)
    one, _ = capture((values, {}), model_sha256="12")
    assert recording.other_file(one, "12") == () == recording.other_file(one, None)
    (note,) = recording.other_file(one, "34")
    assert note.startswith("'run.h5' was recorded from another file")
    mute, _ = capture((values, {}))
    assert recording.other_file(mute, "34") == ()


def test_a_state_that_was_reset_at_other_places_is_refused() -> None:
    two, _ = capture((np.zeros((3, WIDTH), np.int8), {}), stream_steps=2)

    def job(*, keeps_state: bool) -> Any:
        loaded = SimpleNamespace(path="m.tflite", graph=SimpleNamespace(keeps_state=keeps_state))
        return SimpleNamespace(loaded=loaded, samples=SimpleNamespace(count=3, stream_steps=1))

    recording._check_extent(two, job(keeps_state=False), "run.h5")
    with pytest.raises(CaptureError, match="recorded with --steps 2, but this run has --steps 1"):
        recording._check_extent(two, job(keeps_state=True), "run.h5")
