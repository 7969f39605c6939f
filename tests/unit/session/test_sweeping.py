"""Many traces: a case that fails is a row, and what is known is not made again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tfldbg.diagnose.outcome import Case, Outcome
from tfldbg.errors import RunError, UsageError
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge, Thresholds
from tfldbg.options.run_on import RunOn
from tfldbg.session import sweeping
from tfldbg.session.request import Request
from tfldbg.session.sweeping import sweep


def _case(model: str, **against: Any) -> Case:
    return Case(model, Against(**against), RunOn(), None, model)


class Traces:
    """Stands for the trace of a file; what fails is told by the name of the model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[Request] = []
        self.loaded: list[str] = []
        self.errors: dict[str, Exception] = {}
        monkeypatch.delenv("TFLDBG_DEBUG", raising=False)
        monkeypatch.setattr(sweeping, "trace", self._trace)
        monkeypatch.setattr(sweeping, "load_frozen", self._keras)
        monkeypatch.setattr(sweeping, "reduced", lambda result, outputs: result)
        subgraph = SimpleNamespace(outputs=(1,))
        monkeypatch.setattr(sweeping, "load", lambda *_: SimpleNamespace(subgraph=subgraph))

    def _trace(self, request: Request, progress: Any) -> Any:
        self.requests.append(request)
        if request.model in self.errors:
            raise self.errors[str(request.model)]
        progress.stage("tracing", 3)
        return SimpleNamespace(verdict="clean")

    def _keras(self, path: Path, **_: Any) -> str:
        self.loaded.append(str(path))
        return f"loaded {path}"

    @property
    def models(self) -> list[object]:
        return [request.model for request in self.requests]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    return Traces(monkeypatch)


def test_a_case_that_fails_is_a_row_and_those_after_it_are_traced(traces: Traces) -> None:
    refused = RunError("refused", hint="another --runtime")
    traces.errors["b"] = refused
    rows = list(sweep([_case(name) for name in "abc"]))
    assert [row.verdict for row in rows] == ["clean", "error", "clean"]
    assert rows[1].error is refused and rows[1].found is None and rows[1].case.model == "b"
    assert traces.models == ["a", "b", "c"]


def test_the_error_of_a_row_holds_no_frames(traces: Traces) -> None:
    traces.errors["a"] = RunError("refused", hint="another")
    traces.errors["a"].__cause__ = ValueError()
    (row,) = sweep([_case("a")])
    assert row.error is not None
    assert (row.error.__traceback__, row.error.__cause__, row.error.__context__) == (None,) * 3


def test_a_bug_is_a_row_that_says_so_unless_bugs_are_looked_for(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces.errors["a"] = ZeroDivisionError("oops")
    first, second = sweep([_case("a"), _case("b")])
    assert first.error is not None and "ZeroDivisionError" in first.error.message
    assert second.verdict == "clean"
    monkeypatch.setenv("TFLDBG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        list(sweep([_case("a")]))


def test_rows_come_one_by_one_as_they_are_traced(traces: Traces) -> None:
    rows = sweep([_case("a"), _case("b")])
    assert not traces.requests
    next(rows)
    assert traces.models == ["a"]


def test_every_trace_has_the_thresholds_and_the_options_of_its_case(traces: Traces) -> None:
    judge = Judge(thresholds=Thresholds(local_lsb=3.0))
    case = Case("a", Against(against_runtime="builtin"), RunOn(seed=7), 7, "a")
    list(sweep([case], judge=judge))
    (request,) = traces.requests
    assert request.judge is judge and request.run_on is case.run_on
    assert request.against.against_runtime == "builtin"


def test_a_keras_model_is_kept_for_the_next_case_of_the_same_path(traces: Traces) -> None:
    list(sweep([_case(m, keras=k) for m, k in zip("abcd", ("p", "p", "q", "p"), strict=True)]))
    assert traces.loaded == ["p", "q", "p"]
    assert [r.against.keras for r in traces.requests] == [
        "loaded p", "loaded p", "loaded q", "loaded p",
    ]  # fmt: skip


def test_a_keras_model_that_cannot_be_loaded_is_a_row_each(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: Any) -> None:
        raise UsageError(f"cannot load {path}", hint="another")

    monkeypatch.setattr(sweeping, "load_frozen", refuse)
    rows = list(sweep([_case("a", keras="p"), _case("b", keras="p"), _case("c")]))
    assert [row.verdict for row in rows] == ["error", "error", "clean"]


class Kept:
    """A store of rows."""

    def __init__(self, *known: Outcome) -> None:
        self.known = {row.case.model: row for row in known}
        self.added: list[str] = []

    def find(self, case: Case) -> Outcome | None:
        return self.known.get(case.model)

    def add(self, row: Outcome) -> None:
        self.added.append(row.case.model)


def test_a_row_that_is_kept_is_not_traced_again_and_the_others_are_kept(traces: Traces) -> None:
    known: Any = SimpleNamespace(verdict="diverged")
    traces.errors["c"] = RunError("refused", hint="another")
    kept: Any = Kept(Outcome(_case("b"), 1.0, known, None))
    rows = list(sweep([_case(name) for name in "abc"], kept=kept))
    assert [row.verdict for row in rows] == ["clean", "diverged", "error"]
    assert traces.models == ["a", "c"] and kept.added == ["a", "c"]


def test_progress_says_which_case_of_how_many(traces: Traces) -> None:
    said: list[str] = []
    told: Any = SimpleNamespace(
        stage=lambda name, total=None: said.append(name), advance=lambda steps=1: None
    )
    list(sweep([_case("x/a.tflite"), _case("b.tflite")], progress=told))
    assert said == [
        "1/2 a.tflite: reading", "1/2 a.tflite: tracing",
        "2/2 b.tflite: reading", "2/2 b.tflite: tracing",
    ]  # fmt: skip


class Backwards:
    """A pool that does the last item first."""

    def each(self, work: Callable[[Any], Outcome], items: list[Any], done: Any) -> Any:
        made = {}
        for number in reversed(range(len(items))):
            made[number] = work(items[number])
            done(number, made[number])
        yield from (made[number] for number in range(len(items)))


def test_rows_of_several_processes_are_kept_at_once_and_come_in_the_order_of_the_cases(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "open_pool", lambda workers, scheduler: nullcontext(Backwards()))
    known: Any = SimpleNamespace(verdict="diverged")
    kept: Any = Kept(Outcome(_case("b"), 1.0, known, None))
    cases = [_case(name) for name in "abc"]
    rows = list(sweep(cases, kept=kept, workers=2))
    assert traces.models == ["c", "a"] and kept.added == ["c", "a"]
    assert [row.verdict for row in rows] == ["clean", "diverged", "clean"]
    assert rows[0].case is cases[0] and rows[2].case is cases[2]
