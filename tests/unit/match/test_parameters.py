"""Scales around operators that keep their input's: whose difference is excused, whose is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import Range, operator, subgraph_of, tensor
from tfldbg.graph.model import Subgraph, Tensor
from tfldbg.match.model import Match
from tfldbg.match.parameters import resolve_parameters

ONE, TWO, THREE = (-1.0, 1.0), (-2.0, 2.0), (-3.0, 3.0)


def _expected(quant: Range) -> tuple[float, int]:
    made = tensor(0, "", quant)
    assert made.lsb is not None and made.zero_point is not None
    return made.lsb, made.zero_point


def _match(index: int, parameters: str, quant: Range | None = None) -> Match:
    expected = _expected(quant) if quant else None
    name = f"n{index}"
    return Match(index, name, name, (name,), (name,), "name", 1.0, parameters, expected)


def _pooled(before: Range, after: Range) -> Subgraph:
    """A ReLU and a max pooling, which keeps its input's scale."""
    tensors = [tensor(0, "", ONE), tensor(1, "", before), tensor(2, "", after)]
    ops = (operator(0, "RELU", (0,), 1), operator(1, "MAX_POOL_2D", (1,), 2))
    return subgraph_of(tensors, *ops)


def _resolved(file: Subgraph, *matches: Match) -> dict[int, str]:
    found = resolve_parameters(file, {m.tensor: m for m in matches})
    return {i: m.parameters for i, m in found.items()}


def test_the_parameters_after_an_operator_that_keeps_them_excuse_those_before() -> None:
    file = _pooled(TWO, TWO)
    found = _resolved(file, _match(1, "differ", ONE), _match(2, "equal", TWO))
    assert found == {1: "bypassed", 2: "equal"}


def test_the_same_wrong_parameters_on_both_sides_are_no_excuse() -> None:
    file = _pooled(TWO, TWO)
    found = _resolved(file, _match(1, "differ", ONE), _match(2, "differ", ONE))
    assert found == {1: "differ", 2: "differ"}


def test_other_parameters_than_those_after_are_no_excuse() -> None:
    file = _pooled(TWO, THREE)
    found = _resolved(file, _match(1, "differ", ONE), _match(2, "equal", THREE))
    assert found[1] == "differ"


def test_a_tensor_that_the_reference_does_not_quantize_owes_the_parameters_after_it() -> None:
    found = resolve_parameters(
        _pooled(TWO, THREE), {1: _match(1, "none"), 2: _match(2, "equal", THREE)}
    )
    assert (found[1].parameters, found[1].expected) == ("differ", _expected(THREE))
    equal = _resolved(_pooled(THREE, THREE), _match(1, "none"), _match(2, "equal", THREE))
    assert equal[1] == "none"
    unproven = _resolved(_pooled(TWO, THREE), _match(1, "none"), _match(2, "differ", ONE))
    assert unproven[1] == "none"


@pytest.mark.parametrize(("after", "parameters"), [("QUANTIZE", "deferred"), ("TANH", "differ")])
def test_a_quantize_after_an_operator_that_keeps_its_scale_makes_up_for_it(
    after: str, parameters: str
) -> None:
    file = _pooled(TWO, TWO)
    last: Tensor = tensor(3, "", ONE)
    longer = replace(
        file,
        tensors=(*file.tensors, last),
        operators=(*file.operators, operator(2, after, (2,), 3)),
    )
    assert _resolved(longer, _match(2, "differ", ONE))[2] == parameters
