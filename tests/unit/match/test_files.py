"""Operators of two .tflite files: paired by names, inputs, constants and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import graph_of, operator, subgraph_of, tensor, with_tensor
from tfldbg.errors import MatchError
from tfldbg.graph.model import Operator, Subgraph
from tfldbg.match.files import Index, pair_file_inputs, pair_operators
from tfldbg.match.kinds import LOOKALIKE
from tfldbg.run.samples import InputSpec

Constants = Mapping[int, NDArray[Any]]
FIRST, SECOND = np.arange(1.0, 9.0), np.arange(-4.0, 4.0) + 0.5


def _index(given: Subgraph, constants: Constants | None = None) -> Index:
    made = graph_of(given, constants)
    return Index(made, made.main)


def _pairs(ours: Index, theirs: Index, inputs: Mapping[int, int] | None = None) -> dict[int, int]:
    found, _ = pair_operators(ours, theirs, {0: 0} if inputs is None else inputs)
    return {pair.traced: pair.reference for pair in found}


def _named(*names: str, kinds: Sequence[str] = ("RELU", "TANH", "ABS")) -> Index:
    """A chain of operators with these names."""
    tensors = [tensor(0, "in"), *(tensor(i, name) for i, name in enumerate(names, 1))]
    ops = [operator(i, kinds[i], (i,), i + 1) for i in range(len(names))]
    return _index(subgraph_of(tensors, *ops))


def _sums(first: NDArray[Any], second: NDArray[Any], *names: str) -> Index:
    """Two sums with constants, side by side; their outputs have the names."""
    tensors = [tensor(i) for i in range(3)]
    tensors += [tensor(3, names[0]), tensor(4, names[1])]
    ops = (operator(0, "ADD", (0, 1), 3), operator(1, "ADD", (0, 2), 4))
    return _index(subgraph_of(tensors, *ops), {1: first, 2: second})


def test_the_same_chain_is_paired_without_any_name() -> None:
    ours, theirs = _named("", "", ""), _named("", "", "")
    found, values = pair_operators(ours, theirs, {0: 0})
    assert [(p.traced, p.reference, p.rule) for p in found] == [
        (i, i, "structure") for i in range(3)
    ]
    assert values == {0: 0, 1: 1, 2: 2, 3: 3}


def test_constants_tell_siblings_apart_that_have_changed_places() -> None:
    assert _pairs(_sums(FIRST, SECOND, "", ""), _sums(SECOND, FIRST, "", "")) == {0: 1, 1: 0}


def test_names_that_moved_to_other_operators_weigh_more_than_their_place() -> None:
    ours, theirs = _sums(FIRST, FIRST, "a", "b"), _sums(FIRST, FIRST, "b", "a")
    assert _pairs(ours, theirs) == {0: 1, 1: 0}
    found, _ = pair_operators(ours, theirs, {0: 0})
    assert {p.rule for p in found} == {"name"}


def test_a_name_that_moved_to_another_kind_pairs_nothing() -> None:
    ours, theirs = _named("a", "b", "c"), _named("b", "c", "a")
    assert _pairs(ours, theirs) == {0: 0, 1: 1, 2: 2}


def _two_inputs(*kinds: str) -> Index:
    tensors = [tensor(i) for i in range(5)]
    ops = [operator(0, kinds[0], (0,), 2), operator(1, kinds[1], (1,), 3)]
    ops.append(operator(2, "SUB", (2, 3), 4))
    return _index(subgraph_of(tensors, *ops, inputs=(0, 1)))


def test_operators_follow_their_inputs_where_these_are_exchanged() -> None:
    ours, theirs = _two_inputs("RELU", "RELU"), _two_inputs("RELU", "RELU")
    assert _pairs(ours, theirs, {0: 0, 1: 1}) == {0: 0, 1: 1, 2: 2}
    assert _pairs(ours, theirs, {0: 1, 1: 0})[0] == 1


def test_differences_of_the_same_values_are_told_apart_by_their_order() -> None:
    tensors = [tensor(i) for i in range(4)]
    both = ((0, 1), (1, 0))
    ours, theirs = (
        _index(subgraph_of(tensors, *(operator(n, "SUB", s, n + 2) for n, s in enumerate(order))))
        for order in (both, both[::-1])
    )
    assert _pairs(ours, theirs, {0: 0, 1: 1}) == {0: 1, 1: 0}


def test_quantize_and_dequantize_are_looked_through() -> None:
    plain = _named("", kinds=("RELU",))
    tensors = [tensor(0, "in", type="FLOAT32"), *(tensor(i) for i in (1, 2)), tensor(3)]
    ops = (
        operator(0, "QUANTIZE", (0,), 1),
        operator(1, "RELU", (1,), 2),
        operator(2, "DEQUANTIZE", (2,), 3),
    )
    wrapped = _index(subgraph_of(tensors, *ops))
    assert _pairs(wrapped, plain) == {1: 0}
    assert wrapped.root(3) == 2 and wrapped.root(1) == 0 and wrapped.is_end(2)


def test_an_operator_that_one_file_lacks_has_no_pair_and_what_follows_has() -> None:
    ours = _named("a", "extra", "c", kinds=("RELU", "EXP", "ABS"))
    theirs = _named("a", "c", kinds=("RELU", "ABS"))
    assert _pairs(ours, theirs) == {0: 0, 2: 1}


def test_a_kind_that_is_easily_confused_is_a_lookalike() -> None:
    ours, theirs = _named("a", kinds=("RELU6",)), _named("a", kinds=("RELU",))
    (pair,), _ = pair_operators(ours, theirs, {0: 0})
    assert pair.rule == LOOKALIKE and pair.confidence < 1


def _between(kind: str, constants: NDArray[Any]) -> Index:
    """An operator of a kind, and the sum with constants that reads it."""
    tensors = [tensor(i) for i in range(4)]
    ops = (operator(0, kind, (0,), 1), operator(1, "ADD", (1, 2), 3))
    return _index(subgraph_of(tensors, *ops), {2: constants})


def test_another_kind_in_the_same_place_is_paired_where_what_reads_it_is() -> None:
    ours, theirs = _between("TANH", FIRST), _between("LOGISTIC", FIRST)
    found, _ = pair_operators(ours, theirs, {0: 0})
    assert [(p.traced, p.reference, p.rule) for p in found] == [
        (0, 0, LOOKALIKE),
        (1, 1, "structure"),
    ]


def test_another_kind_before_another_reader_is_not_paired() -> None:
    assert 0 not in _pairs(_between("TANH", FIRST), _between("LOGISTIC", -FIRST))


def test_another_size_speaks_against_a_pair() -> None:
    ours = subgraph_of([tensor(0), tensor(1)], operator(0, "RELU", (0,), 1))
    other = with_tensor(ours, 1, shape=(1, 3))
    assert _pairs(_index(ours), _index(ours)) == {0: 0}
    assert _pairs(_index(ours), _index(other)) == {}


def test_an_index_leaves_out_what_computes_no_activation() -> None:
    tensors = [tensor(0), tensor(1, type="INT32"), tensor(2), tensor(3), tensor(4)]
    ops: tuple[Operator, ...] = (
        operator(0, "SHAPE", (0,), 1),
        operator(1, "RELU", (0,), 2),
        operator(2, "QUANTIZE", (2,), 3),
    )
    index = _index(subgraph_of(tensors, *ops))
    assert [op.index for op in index.operators] == [1]
    assert index.consumers(0) == {1} and index.consumers(2) == frozenset()


def _specs(*about: tuple[str, int]) -> list[InputSpec]:
    return [
        InputSpec(tensor(i, name, shape=(1, size)), (name,)) for i, (name, size) in enumerate(about)
    ]


def test_inputs_of_two_files_are_paired_by_name_then_by_size_in_order() -> None:
    theirs = _specs(("a", 4), ("b", 4), ("c", 8))
    assert pair_file_inputs(_specs(("b", 4), ("a", 4), ("x", 8)), theirs, {}) == (1, 0, 2)
    assert pair_file_inputs(_specs(("x", 8), ("y", 4), ("z", 4)), theirs, {}) == (2, 0, 1)
    assert pair_file_inputs(_specs(("x", 4), ("y", 4), ("z", 8)), theirs, {"x": "b"}) == (1, 0, 2)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((("a", 5),), (("a", 4),)),
        ((("x", 4), ("y", 4)), (("a", 4),)),
        ((("x", 4),), (("a", 4), ("b", 4))),
    ],
)
def test_other_inputs_are_refused(
    ours: Sequence[tuple[str, int]], theirs: Sequence[tuple[str, int]]
) -> None:
    with pytest.raises(MatchError, match="no input of the reference fits") as caught:
        pair_file_inputs(_specs(*ours), _specs(*theirs), {})
    assert "'a'" in caught.value.message and caught.value.hint
