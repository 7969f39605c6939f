"""Downstream of an origin means a path of reads, for statuses and for rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.compare.usage import Usage
from tfldbg.diagnose.downstream import computed_from, downstream_of
from tfldbg.diagnose.evidence import InputEvidence, OpEvidence
from tfldbg.diagnose.judge import divergence_of
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Divergence
from tfldbg.diagnose.rules import Judged
from tfldbg.options.judge import Thresholds

WRONG = 12.0
"""An error that nothing explains, LSB."""


@dataclass(frozen=True)
class Net:
    """A small graph: tensors 0 and 1 are the model's inputs."""

    ops: tuple[OpEvidence, ...]
    """In execution order."""
    origins: frozenset[int]

    @property
    def expected(self) -> frozenset[int]:
        """The tensors that a path leads to, by powers of the adjacency matrix."""
        size = 2 + len(self.ops)
        steps = np.zeros((size, size), bool)
        for op in self.ops:
            steps[list(op.reads), op.tensor] = True
        paths = steps.copy()
        for _ in range(size):
            paths |= paths @ steps
        sources = [o.tensor for o in self.ops if o.op in self.origins]
        return frozenset(np.flatnonzero(paths[sources].any(0)).tolist())


@st.composite
def nets(draw: st.DrawFn) -> Net:
    ops: list[OpEvidence] = []
    for number in range(draw(st.integers(1, 5))):
        before = 2 + len(ops)
        reads = draw(st.lists(st.integers(0, before - 1), max_size=3, unique=True))
        for _ in range(draw(st.integers(1, 2))):  # outputs
            ops.append(_reading(number, 2 + len(ops), reads))
    numbers = st.integers(0, ops[-1].op)
    return Net(tuple(ops), frozenset(draw(st.sets(numbers, max_size=2))))


def _reading(
    number: int, tensor: int, reads: Sequence[int], *, local: float | None = 0.1
) -> OpEvidence:
    made = operator(number, local=local, accumulated=WRONG)
    return replace(made, tensor=tensor, name=f"net/t{tensor}", reads=tuple(reads))


def _differs(op: OpEvidence) -> Divergence:
    return divergence_of(op, "local", "differs")


def _with_origins(net: Net) -> tuple[OpEvidence, ...]:
    wrong = operator(0, local=WRONG).local
    return tuple(replace(o, local=wrong) if o.op in net.origins else o for o in net.ops)


@given(nets(), st.randoms())
def test_a_tensor_is_downstream_exactly_where_a_path_leads(net: Net, random: Random) -> None:
    divergences = [_differs(o) for o in net.ops if o.op in net.origins]
    shuffled = sorted(net.ops, key=lambda _: random.random())
    assert downstream_of(net.ops, divergences) == net.expected
    assert downstream_of(shuffled, divergences) == net.expected


@given(nets())
def test_statuses_follow_the_same_paths(net: Net) -> None:
    ops = _with_origins(net)
    statuses = diagnose(evidence(*ops), Thresholds()).statuses
    for op, status in zip(ops, statuses, strict=True):
        affected = "inherited" if op.tensor in net.expected else "ok"
        assert status == ("origin" if op.op in net.origins else affected)


@given(nets())
def test_rules_follow_the_same_paths(net: Net) -> None:
    divergences = tuple(_differs(o) for o in net.ops if o.op in net.origins)
    downstream = downstream_of(net.ops, divergences)
    judged = Judged(evidence(*net.ops), divergences, Thresholds(), downstream)
    for op in net.ops:
        touched = op.op in net.origins or op.tensor in net.expected
        assert judged.is_origin_or_downstream(op) == touched


def test_a_branch_beside_the_origin_is_judged_like_any_other() -> None:
    """It runs after the origin, reads nothing of it, and has a range of its own to complain of."""
    used = Usage(-1, 1, 3, 0, 0, 4096, 256)
    origin = replace(_reading(0, 2, [0]), local=_reading(0, 2, [0], local=WRONG).local)
    fed = replace(_reading(1, 3, [2]), usage=used, scale=0.2)
    beside = replace(_reading(2, 4, [1]), usage=used, scale=0.3)
    made = evidence(origin, fed, beside)
    found = diagnose(replace(made, run=replace(made.run, data="data.npz")), Thresholds())
    assert found.statuses == ("origin", "inherited", "ok")
    assert [f.op for f in found.findings if f.code == "TFL018"] == [2]


def test_all_that_reads_a_wrong_input_is_downstream() -> None:
    """The first reader is named; the others read the same wrong input."""
    wrong = InputEvidence(0, "x", 0.1, 0, "differ", (0.2, 0), first_reader=0)
    ops = (_reading(0, 2, [0]), _reading(1, 3, [0]), _reading(2, 4, [1]))
    found = diagnose(replace(evidence(*ops), inputs=(wrong,)), Thresholds())
    assert found.statuses == ("origin", "inherited", "ok")


@pytest.mark.parametrize(("fed_alike", "status"), [(True, "inherited"), (False, "unchecked")])
def test_what_had_other_inputs_in_every_sample_inherits(fed_alike: bool, status: str) -> None:
    """Where something else hides its own error, it is unchecked."""
    origin = replace(_reading(0, 2, [0]), local=_reading(0, 2, [0], local=WRONG).local)
    blind = replace(_reading(1, 3, [2], local=None), fed_alike=fed_alike)
    beside = replace(_reading(2, 4, [1], local=None), fed_alike=fed_alike)
    found = diagnose(evidence(origin, blind, beside), Thresholds())
    assert found.statuses == ("origin", status, "unchecked")


def test_a_cycle_comes_to_an_end() -> None:
    """As a recording may claim one."""
    ops = [_reading(0, 2, [3]), _reading(1, 3, [2]), _reading(2, 4, [0])]
    assert computed_from(ops, [2]) == {2, 3}
