"""The order of a trace's work: what runs, how often, and what is told where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import (
    WIDTH,
    Array,
    FakeReference,
    FakeRuntime,
    Values,
    chain_file,
    chain_operators,
    chain_values,
    fake_kind,
    in_real,
)
from tfldbg.compare.tally import ShapesChangeError
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import MatchError, RunError, UsageError
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import prepare
from tfldbg.session import Trace, load_trace, observing
from tfldbg.session import request as requests
from tfldbg.session.request import Request
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.session.tracing import trace

KINDS = ("RELU", "NEG")
VALUES = chain_values(*KINDS)
SAMPLES = 10
CODES = np.random.default_rng(0).integers(-90, 90, (SAMPLES, WIDTH)).astype(np.int8)


class Told:
    """A progress that counts."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.samples = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, steps: int = 1) -> None:
        self.samples += steps


class World:
    """A runtime, the runtime of the untouched file, and a reference; all compute in NumPy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.untouched = FakeRuntime(VALUES), FakeRuntime(VALUES)
        self.reference = FakeReference(in_real(VALUES), chain_operators(*KINDS))
        self.told = Told()
        kind = fake_kind(lambda: self.reference, Traits(kernels=True))
        monkeypatch.setattr(requests, "Runner", self.file)
        monkeypatch.setattr(requests, "chosen_kind", lambda against: kind)
        monkeypatch.setattr(observing, "Runner", self.untouched)

    def trace(self, **request: Any) -> Trace:
        about = {"model": chain_file(*KINDS), "run_on": RunOn(data=CODES), **request}
        return trace(Request(**about), self.told)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def _all_closed(world: World) -> bool:
    runners = (*world.file.made, *world.untouched.made)
    return all(r.said[-1] == "close" for r in runners) and world.reference.closed == 1


def test_every_sample_runs_once_and_the_first_of_them_in_the_untouched_file_too(
    world: World,
) -> None:
    result = world.trace()
    assert result.verdict == "clean", result.diagnosis.sentence
    (runner,), (untouched,) = world.file.made, world.untouched.made
    assert np.array_equal(np.concatenate([run[0] for run in runner.runs]), CODES)
    assert len(untouched.runs) == result.evidence.run.observer_samples == 4
    assert world.reference.batches == [range(SAMPLES)] and world.told.samples == SAMPLES
    assert all(runner.fresh)
    assert world.told.stages == ["loading the reference", "matching", "tracing"]
    assert _all_closed(world)


def test_the_operator_that_is_wrong_is_named_and_looked_at_again(world: World) -> None:
    world.file.values = world.untouched.values = chain_values(*KINDS, wrong=1)
    result = world.trace()
    assert result.origins == (1,)
    assert result.first_divergence is not None and result.first_divergence.kind == "NEG"
    assert result.evidence.run.observer_identical
    # Eight samples around the worst run once more, to look for the cause.
    assert len(world.file.made[0].runs) == SAMPLES + 8
    assert _all_closed(world)


def test_a_file_that_computes_something_else_with_its_tensors_exposed_is_told(
    world: World,
) -> None:
    world.untouched.values = chain_values(*KINDS, wrong=1)
    result = world.trace()
    assert not result.evidence.run.observer_identical


def test_a_runtime_that_dies_of_a_sample_names_it_and_everything_is_closed(world: World) -> None:
    world.file.options["fails_at"] = 3
    with pytest.raises(RunError, match=r"^sample 3: the runtime died") as caught:
        world.trace()
    assert caught.value.hint == "choose another --runtime" and _all_closed(world)


def test_a_reference_that_computes_nothing_of_the_file_is_no_reference(world: World) -> None:
    world.reference = FakeReference(lambda given: {0: given[0]})
    with pytest.raises(MatchError, match="no operator of the file could be compared"):
        world.trace()
    assert _all_closed(world)


def test_the_worst_samples_are_run_again_one_by_one(world: World) -> None:
    off = CODES.copy()

    def sometimes(given: Sequence[Array]) -> dict[int, Array]:
        values = VALUES(given)
        if np.array_equal(given[0][0], off[6]):
            values[2] = values[2].copy()
            values[2][..., 0] -= 2
        return values

    world.file.values = world.untouched.values = sometimes
    result = world.trace(measure=Measure(worst=1))
    assert [w.sample for w in result.evidence.measures["worst"]] == [6]
    runs = world.file.made[0].runs
    assert np.array_equal(runs[SAMPLES][0][0], off[6])


def test_a_recorded_trace_says_the_same_again(world: World, tmp_path: Path) -> None:
    world.file.values = world.untouched.values = chain_values(*KINDS, wrong=0)
    result = world.trace(dump=tmp_path / "run.h5")
    again = load_trace(tmp_path / "run.h5")
    assert (again.verdict, again.origins) == (result.verdict, result.origins) == ("diverged", (0,))
    assert np.array_equal(again.op(1).codes.reshape(SAMPLES, WIDTH)[3], _made(3)[2][0])


def _made(sample: int) -> dict[int, Array]:
    return dict(chain_values(*KINDS, wrong=0)([CODES[sample : sample + 1]]))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"dump": "-"}, "cannot go to stdout"),
        ({"measure": Measure(metrics=("nothing",))}, "nothing"),
    ],
)
def test_wrong_use_is_told_before_a_file_is_opened(
    world: World, request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        world.trace(**{"model": "gone.tflite", **request_})
    assert not world.file.made


def test_a_recording_does_not_replace_what_is_read(world: World, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(chain_file(*KINDS))
    with pytest.raises(UsageError, match="--dump"):
        world.trace(model=model, dump=model)
    assert model.read_bytes() == chain_file(*KINDS) and not world.file.made


# Shapes that follow the values.


def _growing(values: Values) -> Values:
    """Tensor 1 has one element more in some samples."""

    def compute(given: Sequence[Array]) -> dict[int, Array]:
        made = dict(values(given))
        if np.array_equal(given[0][0], CODES[2]):
            made[1] = np.zeros((1, WIDTH + 1), np.int8)
        return made

    return compute


def test_a_tensor_whose_shape_changes_is_left_out_and_the_rest_is_traced(world: World) -> None:
    longer = (*KINDS, "NEG")
    values = chain_values(*longer)
    world.file.values = world.untouched.values = _growing(values)
    world.reference = FakeReference(in_real(values), chain_operators(*longer))
    result = world.trace(model=chain_file(*longer))
    assert len(world.file.made) == 2  # once with the tensor, once without
    reasons = {o.tensor: o.local_reason for o in result.evidence.ops}
    assert "shape" in str(reasons[1]) and reasons[3] is None and result.verdict == "clean"


def test_another_run_must_leave_out_more_than_the_last() -> None:
    asked: list[dict[int, str]] = []
    subgraph = prepare(chain_file(*KINDS), RunOn(data=CODES)).subgraph

    def run(unread: Any) -> str:
        asked.append(dict(unread))
        if len(asked) < 3:
            raise ShapesChangeError(subgraph, {len(asked): "its shape changes"})
        return "done"

    assert without_changing_shapes(run) == "done"
    assert [sorted(known) for known in asked] == [[], [1], [1, 2]]

    def stuck(unread: Any) -> str:
        raise ShapesChangeError(subgraph, {2: "its shape changes"})

    with pytest.raises(ShapesChangeError):
        without_changing_shapes(stuck)


def test_what_could_not_be_measured_is_a_note_of_the_run(world: World) -> None:
    notes = world.trace(measure=Measure(worst=1)).evidence.run.notes
    assert "no worst samples: the final outputs equal the reference's in every sample" in notes
