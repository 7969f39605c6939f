"""Which input and output of the reference is which of the file's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import frozen_of, node, operator, subgraph_of, tensor
from tfldbg.errors import MatchError
from tfldbg.graph.model import Signature, Subgraph
from tfldbg.match.ports import pair_inputs, pair_outputs
from tfldbg.reference.evaluate import Frozen
from tfldbg.run.samples import InputSpec

SMALL, LARGE = (None, 4), (None, 8)


def _reference(**shapes: Any) -> Frozen:
    return frozen_of(*(node(name, "Placeholder", shape=shape) for name, shape in shapes.items()))


def _specs(**shapes: tuple[int, ...]) -> list[InputSpec]:
    return [
        InputSpec(tensor(i, name, shape=shape), (name,))
        for i, (name, shape) in enumerate(shapes.items())
    ]


def test_inputs_are_paired_by_name_wherever_they_stand() -> None:
    reference = _reference(left=SMALL, right=SMALL)
    assert pair_inputs(_specs(right=(1, 4), left=(1, 4)), reference, {}) == (1, 0)


def test_a_name_of_another_shape_is_no_pair() -> None:
    reference = _reference(a=SMALL, b=LARGE)
    assert pair_inputs(_specs(a=(1, 8), b=(1, 4)), reference, {}) == (1, 0)


def test_without_names_a_shape_that_only_one_has_decides() -> None:
    reference = _reference(a=SMALL, b=LARGE)
    assert pair_inputs(_specs(x=(1, 8), y=(1, 4)), reference, {}) == (1, 0)


def test_of_inputs_with_one_shape_the_user_chooses() -> None:
    reference, specs = _reference(a=SMALL, b=SMALL), _specs(x=(1, 4), y=(1, 4))
    with pytest.raises(MatchError, match="'x' could be any of 'a', 'b'") as caught:
        pair_inputs(specs, reference, {})
    assert "--input 'x=a'" in str(caught.value.hint)
    assert pair_inputs(specs, reference, {"x": "b"}) == (1, 0)


def test_other_inputs_are_refused_with_what_the_reference_takes() -> None:
    reference = _reference(a=SMALL)
    with pytest.raises(MatchError, match=r"takes 2 inputs, the reference 1: .*'a' \[None, 4\]"):
        pair_inputs(_specs(x=(1, 4), y=(1, 4)), reference, {})
    with pytest.raises(MatchError, match="no input of the reference has the shape of"):
        pair_inputs(_specs(x=(1, 5)), reference, {})


def test_axes_of_one_do_not_tell_shapes_apart() -> None:
    assert pair_inputs(_specs(x=(1, 4, 1)), _reference(a=SMALL), {}) == (0,)


def _two_outputs(**shapes: Any) -> Frozen:
    image = node("image", "Placeholder", shape=SMALL)
    made = [node(name, "Relu", "image", shape=shape) for name, shape in shapes.items()]
    return frozen_of(image, *made, outputs={name: name for name in shapes})


def _heads(*sizes: int) -> Subgraph:
    tensors = [tensor(0, shape=(1, 4))]
    tensors += [tensor(i, shape=(1, size)) for i, size in enumerate(sizes, 1)]
    ops = [operator(i, "RELU", (0,), i + 1) for i in range(len(sizes))]
    return subgraph_of(tensors, *ops)


def test_outputs_are_paired_by_the_signatures_names_before_anything_else() -> None:
    reference, heads = _two_outputs(a=SMALL, b=SMALL), _heads(4, 4)
    assert pair_outputs(heads, None, reference) == {}
    named = Signature("serving_default", 0, {}, {"b": 1, "a": 2})
    assert pair_outputs(heads, named, reference) == {1: "b", 2: "a"}


def test_outputs_of_a_size_that_only_one_has_are_a_pair() -> None:
    assert pair_outputs(_heads(8, 4), None, _two_outputs(a=SMALL, b=LARGE)) == {1: "b", 2: "a"}
    assert pair_outputs(_heads(8, 5), None, _two_outputs(a=SMALL, b=LARGE)) == {1: "b"}


def test_an_output_is_what_an_identity_hands_on() -> None:
    reference = frozen_of(
        node("image", "Placeholder"), node("relu", "Relu", "image"), node("end", "Identity", "relu")
    )
    made = subgraph_of([tensor(0), tensor(1)], operator(0, "RELU", (0,), 1))
    assert pair_outputs(made, None, reference) == {1: "relu"}
