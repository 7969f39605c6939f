"""What a trace measures besides the verdict: what is refused, planned, returned and noted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.fakes import WIDTH, FakeReference, FakeRunner, chain_file, chain_values, in_real
from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.against.opened import About, Bench, Opened
from tfldbg.compare.outputs import TOLERANCE, Finals, OutputStats, PairStats
from tfldbg.compare.tally import NOTHING, Plan
from tfldbg.diagnose.traits import ITSELF, Traits
from tfldbg.errors import DataError, UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.measures.measurement import Measurement, Traced
from tfldbg.options.against import Against
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import Job, prepare

KINDS = ("RELU", "NEG")
VALUES = chain_values(*KINDS)
CODES = np.arange(5 * WIDTH, dtype=np.int8).reshape(5, WIDTH) - 4
BY_NAME: Mapping[str, Measurement] = {one.name: one for one in MEASUREMENTS}


def _job() -> Job:
    return prepare(chain_file(*KINDS), RunOn(data=CODES))


def _planned(**measure: Any) -> Plan:
    """What is counted in the stream."""
    job = _job()
    plan = Plan(job.subgraph, job.exposed.taps, observed=4)
    for one in MEASUREMENTS:
        plan = one.plan(plan, Measure(**measure), job, CODES)
    return plan


def _finished(name: str, given: Any = None, **about: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the result and the notes of a measurement of a trace.

    Args:
        name: Of the measurement.
        given: Its options.
        about: Fields of `Traced`.
    """
    job = _job()
    runner: Any = FakeRunner(VALUES, job.exposed.taps)
    reference: Any = FakeReference(in_real(VALUES))
    relation: Any = None
    known: dict[str, Any] = {
        "measure": Measure(**(given or {})),
        "bench": Bench(job, runner, Against(), RunOn(), Silent()),
        "opened": Opened(About("runtime", "NumPy", Traits()), relation, reference),
        "reference": reference,
        "plan": Plan(job.subgraph, job.exposed.taps, observed=0),
        "measured": NOTHING,
        "evidence": evidence(operator(0, local=0.5)),
        "bodies": None,
        **about,
    }
    found = BY_NAME[name].finish(Traced(**known))
    return found.result, found.notes


@pytest.mark.parametrize(
    ("traits", "steps", "said"),
    [
        (Traits(kernels=True), 1, "--compounding is not possible"),
        (ITSELF, 2, "follows errors through one run"),
    ],
)
def test_compounding_takes_a_reference_that_can_be_divided_and_no_streams(
    traits: Traits, steps: int, said: str
) -> None:
    compounding = BY_NAME["compounding"]
    with pytest.raises(UsageError, match=said) as caught:
        compounding.check(Measure(compounding=True), traits, steps)
    assert "--compounding" in str(caught.value.hint)
    compounding.check(Measure(), traits, steps)
    compounding.check(Measure(compounding=True), ITSELF, 1)


def test_compounding_is_not_measured_unasked_nor_where_nothing_can_be_divided() -> None:
    asked = {"compounding": True}
    assert _finished("compounding", asked) == (None, ())
    about, relation, reference = About("self", "itself", ITSELF), None, None
    nothing: Any = (about, relation, reference)
    divided = Opened(*nothing, counterpart=lambda *_: pytest.fail("it is divided"))
    assert _finished("compounding", opened=divided) == (None, ())


def test_a_metric_that_does_not_exist_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="nothing"):
        BY_NAME["own"].check(Measure(metrics=("nothing",)), Traits(), 1)


def test_the_plan_is_what_was_asked_for() -> None:
    plan = _planned()
    assert (plan.wanted.tolerance, plan.wanted.labels, plan.wanted.worst) == (TOLERANCE, None, 0)
    assert not plan.histograms and not plan.metrics
    asked = _planned(tolerance=0.5, worst=3, top_k=2, histograms=True, metrics={"own": max})
    assert (asked.wanted.tolerance, asked.wanted.worst, asked.wanted.k) == (0.5, 3, 2)
    assert asked.histograms and set(asked.metrics) == {"own"}
    assert _planned(tolerance=0.0).wanted.tolerance == 0.0
    assert _planned(pictures=True).histograms


def test_labels_must_fit_the_samples() -> None:
    labels = np.zeros(5, np.int64)
    assert _planned(labels=labels).wanted.labels is not None
    with pytest.raises(DataError):
        _planned(labels=labels[:3])


def test_pairs_of_values_are_kept_for_pictures_alone() -> None:
    for pictures in (False, True):
        with ExitStack() as stack:
            job, measure = _job(), Measure(pictures=pictures)
            watching = {one.name for one in MEASUREMENTS if one.watch(measure, job, stack)}
        assert watching == ({"pictures"} if pictures else set())
    assert _finished("pictures") == (None, ())


def test_worst_samples_that_were_asked_for_and_are_not_there_are_noted() -> None:
    assert _finished("worst") == ((), ())
    asked = {"worst": 2}
    _, (note,) = _finished("worst", asked)
    assert note == "no worst samples: no final output has a counterpart in the reference"
    pair = PairStats("tflite", "reference", 9, 0.0, 0.0, 0.0, 0, 0.0, True, 0)
    made = evidence(operator(0, local=0.5))
    equal = replace(made, outputs=(OutputStats(100, "out", 0.1, 0.01, (pair,)),))
    _, (note,) = _finished("worst", asked, evidence=equal)
    assert note == "no worst samples: the final outputs equal the reference's in every sample"


def test_the_worst_samples_are_run_once_more() -> None:
    job = _job()
    runner: Any = FakeRunner(VALUES, job.exposed.taps)
    found, notes = _finished(
        "worst",
        {"worst": 2},
        bench=Bench(job, runner, Against(), RunOn(), Silent()),
        measured=replace(NOTHING, finals=Finals(worst_samples=(3, 1))),
    )
    assert [w.sample for w in found] == [3, 1] and notes == ()
    assert [run[0].tolist() for run in runner.runs] == [CODES[n : n + 1].tolist() for n in (3, 1)]


def test_histograms_that_were_asked_for_and_are_not_there_are_noted() -> None:
    assert _finished("histograms") == (None, ())
    _, (note,) = _finished("histograms", {"histograms": True})
    assert note == "no histograms: no tensor that was compared is quantized"
