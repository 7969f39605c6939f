"""A function of the user's as the reference: what it is given, and which operators it judges."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes import (
    STEP,
    WIDTH,
    ZERO_POINT,
    FakeReference,
    FakeRunner,
    chain_file,
    chain_operators,
    chain_values,
    in_real,
    operator,
    subgraph_of,
    tensor,
)
from tests.loop_file import File
from tfldbg.against import function
from tfldbg.against.opened import Bench
from tfldbg.compare.relation import Relation
from tfldbg.errors import PluginError, UsageError
from tfldbg.graph.model import Operator, Subgraph
from tfldbg.match.itself import match_itself
from tfldbg.match.model import Matching
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import Job, prepare

KINDS = ("RELU", "NEG")
CODES = np.arange(70 * WIDTH, dtype=np.int64).reshape(70, WIDTH) % 200 - 100
DATA = CODES.astype(np.int8)


def _job(count: int, **run_on: Any) -> Job:
    return prepare(chain_file(*KINDS), RunOn(data=DATA[:count], samples=count, **run_on))


@pytest.mark.parametrize(
    ("reference", "said"),
    [("nothing", "there is no reference 'nothing'"), (5, "the reference is of type int")],
)
def test_what_is_no_function_is_refused_before_a_file_is_read(reference: Any, said: str) -> None:
    check = function.KIND.check
    assert check is not None
    with pytest.raises(UsageError, match=said) as caught:
        check(Against(reference=reference))
    assert caught.value.hint
    check(Against(reference=lambda inputs: inputs))


def test_a_function_that_cannot_be_imported_is_refused_before_a_file_is_read() -> None:
    check = function.KIND.check
    assert check is not None
    with pytest.raises(PluginError, match="nowhere"):
        check(Against(reference="nowhere.at.all:f"))


def test_a_file_without_inputs_has_nothing_to_call_a_function_with() -> None:
    file = File()
    main = file.subgraph()
    held = main.tensor("FLOAT32", [1, 2], np.ones((1, 2), np.float32))
    made = main.tensor("FLOAT32", [1, 2])
    main.operator("RELU", [held], [made])
    main.ends([], [made])
    job = prepare(file.save(), RunOn(samples=1))
    runner: Any = FakeRunner(lambda given: {}, ())
    against = Against(reference=lambda inputs: inputs)
    with pytest.raises(UsageError, match="has no inputs"):
        function.KIND.open(Bench(job, runner, against, RunOn(), Silent()))
    assert runner.said == []


def test_a_function_sees_real_units_in_batches_of_all_samples() -> None:
    given = list(function._batches(_job(70)))
    assert [g.start for g in given] == [0, 32, 64]
    seen = np.concatenate([g.arrays["t0"] for g in given])
    np.testing.assert_allclose(seen, (CODES - ZERO_POINT) * STEP, rtol=1e-5)
    assert np.array_equal(np.concatenate([g.codes[0][:, 0] for g in given]), DATA)


def test_a_function_sees_a_whole_stream_at_a_time() -> None:
    given = list(function._batches(_job(9, steps=3)))
    assert [(g.start, len(g.arrays["t0"])) for g in given] == [(0, 3), (3, 3), (6, 3)]


def test_a_function_may_write_to_what_it_is_given() -> None:
    file = File()
    main = file.subgraph()
    given, made = (main.tensor("FLOAT32", [1, WIDTH]) for _ in range(2))
    main.operator("RELU", [given], [made])
    main.ends([given], [made])
    data = np.ones((2, WIDTH), np.float32)
    (batch,) = function._batches(prepare(file.save(), RunOn(data=data)))
    batch.arrays["t0"][:] = 7
    assert (batch.codes[0] == 1).all()


# Which operators it judges.


def _floats(kind: str = "FLOAT32", **other: Any) -> tuple[Subgraph, Operator]:
    op = operator(0, "RELU", (0,), 1)
    return subgraph_of([tensor(0, type="FLOAT32"), tensor(1, type=kind, **other)], op), op


def test_only_float_operators_that_were_never_rounded_are_judged_by_floats() -> None:
    assert function._float_alone(*_floats())
    assert not function._float_alone(*_floats("FLOAT16"))
    quantized = [tensor(0, "", (-1.0, 1.0)), tensor(1, "", (-1.0, 1.0))]
    assert not function._float_alone(subgraph_of(quantized), operator(0, "RELU", (0,), 1))
    tensors = [tensor(i, type="FLOAT32") for i in range(3)]
    unpack, relu = operator(0, "DEQUANTIZE", (0,), 1), operator(1, "RELU", (1,), 2)
    assert not function._float_alone(subgraph_of(tensors, unpack, relu), relu)


@pytest.mark.parametrize(
    ("floats", "reasons", "left"),
    [((), {}, ()), (("t1",), {}, (1,)), ((), {2: "it was not recorded"}, (2,))],
)
def test_what_is_computed_in_float_beside_codes_is_left_to_the_files_own_arithmetic(
    floats: tuple[str, ...], reasons: dict[int, str], left: tuple[int, ...]
) -> None:
    job = _job(1)
    copies: Any = SimpleNamespace(job=job)
    relation = Relation(match_itself(job.subgraph), reasons)
    assert function._left_to(copies, relation, floats) == left
    (note,) = function._notes("mine", job, left) or ("",)
    assert (f"'mine' cannot judge operators {left[0] - 1}," in note) if left else not note


def test_a_float_operator_is_judged_by_floats() -> None:
    file, _ = _floats()
    copies: Any = SimpleNamespace(job=SimpleNamespace(subgraph=file))
    assert function._left_to(copies, Relation(match_itself(file), {}), ("tensor 1",)) == ()
    assert function._left_to(copies, Relation(Matching({}, {}, (0,)), {}), ()) == (1,)


def test_of_two_references_each_computes_what_it_can_judge() -> None:
    values, operators = in_real(chain_values(*KINDS)), chain_operators(*KINDS)
    recorded: Any = FakeReference(values, operators)
    own: Any = FakeReference(values, lambda codes: {1: operators(codes)[1] + 9})
    job = _job(2)
    runner: Any = FakeRunner(chain_values(*KINDS), job.exposed.taps)
    batch = Bench(job, runner, Against(), RunOn(), Silent()).first
    stack, right = ExitStack(), recorded.compute(batch)
    both = function._Both(recorded, own, frozenset({1}), stack).compute(batch)
    assert np.array_equal(both.local[1], own.compute(batch).local[1])
    assert np.array_equal(both.local[2], right.local[2])
    assert np.array_equal(both.free[1], right.free[1])
    neither = function._Both(recorded, own, frozenset({1, 2}), stack)
    assert set(neither.compute(batch).local) == {1}
    closed: list[str] = []
    stack.callback(closed.append, "closed")
    neither.close()
    assert closed == ["closed"]
