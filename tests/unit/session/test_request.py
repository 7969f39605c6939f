"""What a trace is asked for: what is refused first, what is started when, what is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import (
    WIDTH,
    FakeReference,
    FakeRuntime,
    chain_file,
    chain_values,
    fake_kind,
    in_real,
)
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import ModelError, RunError, TfldbgError, UsageError
from tfldbg.options.against import Against
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.session import request as requests
from tfldbg.session.request import Ready, Request

KINDS = ("RELU", "NEG")
VALUES = chain_values(*KINDS)
CODES = np.arange(3 * WIDTH, dtype=np.int8).reshape(3, WIDTH) - 4


def _refused(request: Request) -> str:
    with pytest.raises(TfldbgError) as caught, ExitStack() as stack:
        request.ready(stack, Silent(), {})
    return caught.value.message


def test_what_is_wrong_is_told_in_one_order_and_the_file_is_read_last() -> None:
    """Each request still has every fault of those after it."""
    request = Request(
        "model.h5",
        Against(keras="good.tflite", reference="nowhere"),
        measure=Measure(compounding=True),
    )
    assert "they are swapped" in _refused(request)
    request = replace(request, model="gone.tflite")
    assert "--keras 'good.tflite' is a .tflite file" in _refused(request)
    request = replace(request, against=Against(keras="q.h5", reference="nowhere"))
    assert "a trace has one reference, and there are 2: --keras, --reference" in _refused(request)
    request = replace(request, against=Against(reference="nowhere"))
    assert "there is no reference 'nowhere'" in _refused(request)
    request = replace(request, against=Against(reference=lambda inputs: inputs))
    assert "--compounding is not possible" in _refused(request)
    request = replace(request, measure=Measure())
    assert "'gone.tflite' does not exist" in _refused(request)


@pytest.mark.parametrize(
    "against",
    [
        {"keras": "q.h5", "against": "good.tflite"},
        {"against": "good.tflite", "against_runtime": "builtin"},
        {"against_runtime": "builtin", "reference": "emulated"},
        {"keras": "q.h5", "reference": "emulated"},
    ],
)
def test_there_is_one_reference_only(against: dict[str, Any]) -> None:
    assert "a trace has one reference" in _refused(Request("gone.tflite", Against(**against)))


def test_a_reference_whose_data_cannot_be_read_is_refused_before_the_model_is_prepared() -> None:
    refused = _refused(Request(chain_file(*KINDS), Against(against="gone.npz")))
    assert "'gone.npz' does not exist" in refused


# What is started, and what is closed.


class Fakes:
    """A runtime and a kind of reference."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **runner: Any) -> None:
        self.runtime = FakeRuntime(VALUES, runner)
        self.reference = FakeReference(in_real(VALUES))
        self.said: list[list[str]] = []
        """What the runner had been asked for when the reference was opened."""
        self.kind = fake_kind(self._opened, Traits(kernels=True))
        monkeypatch.setattr(requests, "Runner", self.runtime)
        monkeypatch.setattr(requests, "chosen_kind", lambda against: self.kind)

    def _opened(self) -> FakeReference:
        self.said.append(list(self.runtime.made[-1].said))
        return self.reference


@contextmanager
def _ready(**request: Any) -> Iterator[Ready]:
    about = {"model": chain_file(*KINDS), "run_on": RunOn(data=CODES)}
    with ExitStack() as stack:
        yield Request(**{**about, **request}).ready(stack, Silent(), {})


def test_the_runtime_loads_the_file_while_the_reference_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = Fakes(monkeypatch)
    with _ready() as ready:
        (runner,) = fakes.runtime.made
        assert fakes.said == [["start"]] and runner.said == ["start", "open"]
        assert ready.bench.runner is runner and ready.reference is fakes.reference
        assert not runner.runs and not fakes.reference.closed
    assert runner.said[-1] == "close" and fakes.reference.closed == 1


def test_a_runtime_that_refuses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(monkeypatch, refuses=RunError("refused", hint="another"))
    with pytest.raises(RunError, match="refused"), ExitStack() as stack:
        Request(chain_file(*KINDS)).ready(stack, Silent(), {})
    assert fakes.runtime.made[0].said == ["start", "open", "close"]


def test_a_kind_is_asked_before_a_file_is_read_and_may_bring_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = Fakes(monkeypatch)
    asked: list[object] = []

    def bring(model: object, against: Against, run_on: RunOn) -> RunOn:
        asked.append((model, run_on.data))
        return replace(run_on, data=CODES[:2])

    fakes.kind = replace(fakes.kind, check=asked.append, run_on=bring)
    against, given = Against(), RunOn(samples=9)
    model = chain_file(*KINDS)
    with _ready(against=against, run_on=given, model=model) as ready:
        assert asked == [against, (model, None)]
        assert ready.bench.job.samples.count == 2
        assert ready.bench.given is given  # what the user gave is not what is run on

    def refuse(against: Against) -> None:
        raise UsageError("no such reference", hint="another")

    fakes.kind = replace(fakes.kind, check=refuse)
    assert _refused(Request("gone.tflite")) == "no such reference"


@pytest.mark.parametrize(
    ("about", "pictures"),
    [({}, False), ({"measure": Measure(pictures=True)}, True), ({"dump": "run.h5"}, True)],
)
def test_pictures_are_recorded_where_they_are_asked_for_or_something_is_dumped(
    about: dict[str, Any], pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fakes(monkeypatch)
    with _ready(**about) as ready:
        assert ("pictures" in ready.watched) is pictures
        assert ready.plan.histograms is pictures and ready.options.pictures is pictures


@pytest.mark.parametrize(
    ("measure", "run"),
    [
        ({}, False),
        ({"tolerance": 0.0}, True),
        ({"labels": np.zeros(3, np.int64)}, True),
        ({"worst": 3}, False),
    ],
)
def test_the_emulation_runs_where_final_outputs_are_judged(
    measure: dict[str, Any], run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, both = Fakes(monkeypatch), FakeReference(in_real(VALUES))
    monkeypatch.setattr(requests, "with_emulation", lambda *_: (both, "it cannot be built"))
    with _ready(measure=Measure(**measure)) as ready:
        assert ready.reference is (both if run else fakes.reference)
        assert ready.notes == (("it cannot be built",) if run else ())
        assert len(fakes.runtime.made[0].runs) == run  # it is built for the first sample
    assert both.closed == run


def test_a_tensor_that_is_not_to_be_read_is_no_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    Fakes(monkeypatch)
    request = Request(chain_file(*KINDS), run_on=RunOn(data=CODES))
    with ExitStack() as stack:
        ready = request.ready(stack, Silent(), {1: "its shape changes"})
    assert ready.plan.read == (2,) and ready.bench.job.skipped == {1: "its shape changes"}


def test_a_model_that_does_not_exist_is_refused_before_the_runtime_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = Fakes(monkeypatch)
    with pytest.raises(ModelError), ExitStack() as stack:
        Request("gone.tflite").ready(stack, Silent(), {})
    assert not fakes.runtime.made and not fakes.said


def test_a_process_in_another_folder_gets_paths_that_stay_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.tflite", "q.h5", "d.npz", "l.npy"):
        (tmp_path / name).touch()
    request = Request(
        "m.tflite", Against(keras="q.h5"), RunOn(data=Path("d.npz")), Measure(labels="l.npy")
    ).elsewhere
    assert request.model == str(tmp_path / "m.tflite")
    assert request.against.keras == str(tmp_path / "q.h5")
    assert request.run_on.data == str(tmp_path / "d.npz")
    assert request.measure.labels == str(tmp_path / "l.npy")
    other = Request(b"bytes", Against(against="gone.h5"), RunOn(data=CODES)).elsewhere
    assert (other.model, other.against.against) == (b"bytes", "gone.h5")
    assert other.run_on.data is CODES
