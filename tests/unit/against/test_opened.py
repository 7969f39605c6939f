"""What a reference is opened with: the first sample, and a runtime that refuses the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.fakes import WIDTH, FakeRunner, chain_file, chain_values, in_real
from tests.loop_file import File
from tfldbg.against import _MODULES, chosen_kind
from tfldbg.against.opened import About, Bench, Opened
from tfldbg.compare.relation import Relation
from tfldbg.diagnose.describe import describe
from tfldbg.diagnose.traits import ITSELF, Traits
from tfldbg.errors import RunError
from tfldbg.match.itself import match_itself
from tfldbg.options.against import Against, KindName
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import Job, prepare

KINDS = ("RELU", "NEG")
CODES = np.arange(3 * WIDTH, dtype=np.int8).reshape(3, WIDTH) - 4
ABOUT = About("tflite", "good.tflite", Traits(other_file=True))
REFUSED = RunError("the runtime refused 'm'", hint="choose another --runtime")


class Told:
    """A progress that keeps the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, steps: int = 1) -> None:
        raise AssertionError("no sample is counted before the stream")


def _job() -> Job:
    return prepare(chain_file(*KINDS), RunOn(data=CODES))


def _bench(**options: Any) -> tuple[Bench, FakeRunner, Told]:
    job, told = _job(), Told()
    runner: Any = FakeRunner(chain_values(*KINDS), job.exposed.taps, **options)
    return Bench(job, runner, Against(), RunOn(), told), runner, told


def _relation(job: Job, **parameters: tuple[float, int]) -> Relation:
    """Match the file with itself; some tensors should have other parameters."""
    matching = match_itself(job.subgraph)
    matches: dict[int, Any] = dict(matching.matches)
    for name, expected in parameters.items():
        index = int(name.removeprefix("t"))
        matches[index] = replace(matches[index], parameters="differ", expected=expected)
    return Relation(replace(matching, matches=matches), {})


def test_the_first_sample_runs_once_however_often_it_is_asked_for() -> None:
    bench, runner, told = _bench()
    first = bench.first
    assert bench.first is first and len(runner.runs) == 1
    assert np.array_equal(runner.runs[0][0], CODES[:1])
    assert (first.start, first.stop) == (0, 1)
    expected = in_real(chain_values(*KINDS))([CODES[:1]])
    assert all(np.array_equal(first.real[i][0], expected[i]) for i in (0, 1, 2))
    assert told.stages == []


def test_a_runtime_that_loads_the_file_asks_for_nothing_at_rest() -> None:
    bench, runner, told = _bench()
    bench.start(ABOUT, lambda: pytest.fail("nothing is refused"))
    assert runner.said == ["open"] and told.stages == ["matching"] and not runner.runs


def test_a_runtime_that_refuses_names_the_first_operator_that_differs() -> None:
    bench, _, told = _bench(refuses=REFUSED)
    wrong = _relation(bench.job, t2=(0.1, 3), t1=(0.1, 3))
    with pytest.raises(RunError) as caught:
        bench.start(ABOUT, lambda: wrong)
    said = caught.value.message
    assert said.startswith("the runtime refused 'm'; without running it, operator 0 RELU 't1' is")
    assert caught.value.hint == REFUSED.hint and caught.value.__cause__ is REFUSED
    assert told.stages == []


def test_a_runtime_that_refuses_a_file_without_differences_is_all_that_is_told() -> None:
    bench, _, _ = _bench(refuses=REFUSED)
    with pytest.raises(RunError) as caught:
        bench.start(ABOUT, lambda: _relation(bench.job))
    assert caught.value is REFUSED


def test_a_run_is_described_with_its_reference() -> None:
    run = replace(describe(_job(), True, {}), notes=("of the run",))
    about = replace(ABOUT, sha256="12", versions={"tensorflow": "2"})
    found = about.described(run)
    told = (found.reference_kind, found.reference_path, found.reference_sha256, found.data)
    assert told == ("tflite", "good.tflite", "12", "arrays")
    assert found.traits == ABOUT.traits
    assert found.versions == {**run.versions, "tensorflow": "2"}
    assert replace(about, data="run.h5").described(run).data == "run.h5"
    nothing: Any = None
    noted = Opened(about, nothing, nothing, ("of the reference",)).described(run)
    assert noted.notes == ("of the run", "of the reference")


EVERY: Mapping[KindName, Against] = {
    "self": Against(),
    "keras": Against(keras="q.h5"),
    "tflite": Against(against="good.tflite"),
    "capture": Against(against="run.npz"),
    "runtime": Against(against_runtime="builtin"),
    "emulation": Against(reference="emulated"),
    "function": Against(reference="package.module:function"),
}


def test_every_kind_has_a_module_and_only_the_file_itself_is_of_the_file_unrounded() -> None:
    assert set(EVERY) == set(_MODULES) == set(get_args(KindName))
    kinds = {name: chosen_kind(against) for name, against in EVERY.items()}
    assert len({kind.open for kind in kinds.values()}) == len(kinds)
    assert [name for name, kind in kinds.items() if kind.traits == ITSELF] == ["self"]
    assert [n for n, k in kinds.items() if k.traits.recorded] == ["capture", "function"]
    assert [n for n, k in kinds.items() if k.traits.divisible] == ["self", "keras", "tflite"]
    assert [n for n, k in kinds.items() if k.traits.full_precision] == ["keras"]


@pytest.mark.parametrize("against", [Against(), Against(against_runtime="builtin")])
def test_no_copy_is_built_of_a_file_that_the_runtime_refuses(against: Against) -> None:
    bench, runner, _ = _bench(refuses=REFUSED)
    bench.against = against
    with pytest.raises(RunError) as caught:
        chosen_kind(against).open(bench)
    assert caught.value is REFUSED and runner.said == ["open"] and not runner.runs


def _dense(*weights: np.ndarray) -> bytes:
    """Float FULLY_CONNECTED one after the other."""
    file = File()
    main = file.subgraph()
    given = x = main.tensor("FLOAT32", [1, WIDTH])
    for values in weights:
        held = main.tensor("FLOAT32", [WIDTH, WIDTH], values)
        read, x = x, main.tensor("FLOAT32", [1, WIDTH])
        main.operator("FULLY_CONNECTED", [read, held, -1], [x], schema.FullyConnectedOptionsT())
    main.ends([given], [x])
    return file.save()


def test_other_weights_than_a_sound_files_are_named_although_the_runtime_refuses() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, WIDTH, WIDTH)).astype(np.float32)
    bench, runner, _ = _bench(refuses=REFUSED)
    bench.job = prepare(_dense(one, -two), RunOn(samples=1))
    bench.against = Against(against=_dense(one, two))
    with pytest.raises(RunError, match="without running it, operator 1 FULLY_CONNECTED 't4' is"):
        chosen_kind(bench.against).open(bench)
    assert runner.said == ["open"]
