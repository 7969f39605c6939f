"""What a trace measures besides the verdict: what is refused, added and noted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.fakes import WIDTH, FakeReference, FakeRunner, chain_file, chain_values, in_real
from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.against.opened import About, Bench, Opened
from tfldbg.compare.outputs import TOLERANCE, OutputStats, PairStats
from tfldbg.diagnose.traits import ITSELF, Traits
from tfldbg.errors import DataError, UsageError
from tfldbg.options.against import Against
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import Job, prepare
from tfldbg.session import extras as module
from tfldbg.session.extras import Extras

KINDS = ("RELU", "NEG")
VALUES = chain_values(*KINDS)
CODES = np.arange(5 * WIDTH, dtype=np.int8).reshape(5, WIDTH) - 4


def _extras(*, pictures: bool = False, **measure: Any) -> Extras:
    return Extras(Measure(**measure), pictures)


def _job() -> Job:
    return prepare(chain_file(*KINDS), RunOn(data=CODES))


def _bench() -> tuple[Bench, FakeRunner]:
    job = _job()
    runner: Any = FakeRunner(VALUES, job.exposed.taps)
    return Bench(job, runner, Against(), RunOn(), Silent()), runner


def _opened(*, emulates: bool = False) -> Opened:
    about, nothing = About("runtime", "fake", Traits()), None
    reference: Any = FakeReference(in_real(VALUES))
    relation: Any = nothing
    return Opened(about, relation, reference, emulates=emulates)


@pytest.mark.parametrize(
    ("traits", "steps", "said"),
    [
        (Traits(kernels=True), 1, "how errors compound is not measured"),
        (ITSELF, 2, "follows errors through one run"),
    ],
)
def test_compounding_takes_a_reference_that_can_be_divided_and_no_streams(
    traits: Traits, steps: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        _extras(compounding=True).check(traits, steps)
    assert "--compounding" in str(caught.value.hint)
    _extras().check(traits, steps)
    _extras(compounding=True).check(ITSELF, 1)


def test_compounding_is_not_measured_unasked_nor_where_nothing_can_be_divided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(*_: object) -> None:
        pytest.fail("it is measured")

    monkeypatch.setattr("tfldbg.session.compounding.compounding", measured)
    (bench, _), opened = _bench(), _opened()
    divided: Any = replace(opened, counterpart=lambda *_: pytest.fail("it is divided"))
    assert _extras().shares(bench, divided, opened.reference) is None
    assert _extras(compounding=True).shares(bench, opened, opened.reference) is None


def test_the_plan_is_what_was_asked_for() -> None:
    job = _job()
    plan = _extras().plan(job, CODES)
    assert (plan.read, plan.observed, plan.histograms) == ((1, 2), 4, False)
    assert plan.wanted.tolerance == TOLERANCE and plan.wanted.labels is None
    asked = _extras(tolerance=0.5, worst=3, top_k=2, histograms=True).plan(job, CODES)
    assert (asked.wanted.tolerance, asked.wanted.worst, asked.wanted.k) == (0.5, 3, 2)
    assert asked.histograms
    assert _extras(tolerance=0.0).plan(job, CODES).wanted.tolerance == 0.0


def test_labels_must_fit_the_samples() -> None:
    labels = np.zeros(5, np.int64)
    plan = _extras(labels=labels).plan(_job(), CODES)
    assert plan.wanted.labels is not None
    with pytest.raises(DataError):
        _extras(labels=labels[:3]).plan(_job(), CODES)


def test_pairs_of_values_are_kept_for_pictures_alone() -> None:
    assert _extras().points(_job()) is None
    assert _extras(pictures=True).points(_job()) is not None


@pytest.mark.parametrize(
    ("measure", "emulates", "run"),
    [
        ({}, False, False),
        ({"tolerance": 0.0}, False, True),
        ({"labels": np.zeros(5)}, False, True),
        ({"tolerance": 0.1}, True, False),
        ({"worst": 3}, False, False),
    ],
)
def test_the_emulation_runs_where_final_outputs_are_judged_and_the_reference_has_none(
    measure: dict[str, Any], emulates: bool, run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    both: Any = object()
    monkeypatch.setattr(module, "with_emulation", lambda *_: (both, "it cannot be built"))
    (bench, runner), opened = _bench(), _opened(emulates=emulates)
    reference, notes = _extras(**measure).emulated(bench, opened)
    assert reference is (both if run else opened.reference)
    assert notes == (("it cannot be built",) if run else ())
    assert len(runner.runs) == run


def test_what_was_asked_for_and_is_not_there_is_noted() -> None:
    made = evidence(operator(0, local=0.5))
    notes = _extras(worst=2, histograms=True).add(made, (), ("cannot be done",)).run.notes
    assert notes[-3:] == (
        "cannot be done",
        "no worst samples: no final output has a counterpart in the reference",
        "no histograms: no tensor that was compared is quantized",
    )
    assert _extras().add(made, (), ()).run.notes == made.run.notes
    pair = PairStats("tflite", "reference", 9, 0.0, 0.0, 0.0, 0, 0.0, True, 0)
    equal = replace(made, outputs=(OutputStats(100, "out", 0.1, 0.01, (pair,)),))
    (said,) = _extras(worst=2).add(equal, (), ()).run.notes
    assert said == "no worst samples: the final outputs equal the reference's in every sample"


def test_evidence_is_completed_with_what_was_measured() -> None:
    made = evidence(operator(0, local=0.5))
    worst: Any = (object(),)
    shares: Any = object()
    found = _extras(worst=1, tolerance=0.25).add(made, worst, (), shares)
    assert (found.worst, found.tolerance, found.compounding) == (worst, 0.25, shares)
    assert found.run.notes == made.run.notes and found.ops == made.ops
