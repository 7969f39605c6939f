"""When a match may be given up."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from tfldbg.against.parts.claims import Claims
from tfldbg.against.parts.verifying import MatchVerifier
from tfldbg.match.model import Unmatched

MOVED, READ = 1, 2
"""A tensor whose values are its node's in another order, and what reads it."""


def _claims(
    accused: set[int], errors: Mapping[int, float], *, joint: bool = False, telling: bool = True
) -> Claims:
    """Claims about two operators, of which the second may be checked together with the first."""
    relation: Any = SimpleNamespace(
        joint={READ: (MOVED, READ)} if joint else {}, beyond=frozenset()
    )
    nothing: Any = None
    return Claims(
        matching=nothing,
        relation=relation,
        segments={},
        accused=frozenset(accused),
        unchecked=frozenset(),
        telling=frozenset({MOVED, READ} if telling else ()),
        blind=frozenset(),
        failing={},
        errors=errors,
    )


@pytest.fixture
def verifier() -> MatchVerifier:
    """A verifier that knows the operators, the first a PAD, and nothing else."""
    known = object.__new__(MatchVerifier)
    kinds = {MOVED: "PAD", READ: "CONV_2D"}
    producers: Any = {t: SimpleNamespace(index=t, kind=kind) for t, kind in kinds.items()}
    known._subgraph = SimpleNamespace(producers=producers)
    few: Any = SimpleNamespace(readable=frozenset())
    known._few = few
    return known


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize(("left", "refuted"), [(0.01, True), (0.5, False)])
def test_an_error_that_stays_where_the_tensor_is_read_is_the_operators(
    verifier: MatchVerifier, certain: bool, left: float, refuted: bool
) -> None:
    """What reads it may be off by as much as it likes, as where weights are not compared."""
    claims = _claims({MOVED}, {MOVED: 1.0, READ: 0.001})
    tried = _claims(set(), {READ: left}, joint=True)
    given_up = Unmatched(MOVED, "in another order", certain=certain)
    assert verifier._is_refuted(given_up, claims, tried) is refuted


@pytest.mark.parametrize("certain", [True, False])
def test_a_reader_that_is_accused_instead_tells_the_error(
    verifier: MatchVerifier, certain: bool
) -> None:
    claims = _claims({MOVED, READ}, {MOVED: 1.0, READ: 1.0})
    tried = _claims({READ}, {READ: 1.0}, joint=True)
    given_up = Unmatched(MOVED, "in another order", certain=certain)
    assert verifier._is_refuted(given_up, claims, tried) is certain
