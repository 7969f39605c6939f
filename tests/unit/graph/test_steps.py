"""The steps of unrolled recurrences, by structure alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfldbg.graph.model import Operator, Subgraph, Tensor
from tfldbg.graph.steps import SequenceOutput, sequences, unrolled


@dataclass
class Net:
    """A subgraph under construction; constants are told from activations by their buffer."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def tensor(self, *shape: int, buffer: int = 0) -> int:
        index = len(self.tensors)
        tensor = Tensor(
            index, f"t{index}", "FLOAT32", shape, shape, None, buffer, False, buffer > 0
        )
        self.tensors.append(tensor)
        return index

    def add(self, kind: str, *inputs: int, shape: tuple[int, ...] = (1, 8), **options: Any) -> int:
        out = self.tensor(*shape)
        self.operators.append(Operator(len(self.operators), kind, inputs, (out,), options))
        return out

    def subgraph(self) -> Subgraph:
        return Subgraph(0, "main", tuple(self.tensors), tuple(self.operators), (), ())


def _fc(net: Net, given: int, weights: int) -> int:
    return net.add("FULLY_CONNECTED", given, weights, -1)


def _elman(net: Net, inputs: list[int], state: int | None) -> list[int]:
    """h' = tanh(W x + U h); without a state, the first step lacks U h.  Returns every h."""
    w, u = net.tensor(8, 5, buffer=2), net.tensor(8, 8, buffer=3)
    states = []
    for x in inputs:
        summed = _fc(net, x, w)
        if state is not None:
            summed = net.add("ADD", summed, _fc(net, state, u))
        state = net.add("TANH", summed)
        states.append(state)
    return states


def _steps(net: Net) -> list[list[str]]:
    """Kinds of the operators of each step of the only recurrence."""
    subgraph = net.subgraph()
    (found,) = unrolled(subgraph)
    return [[subgraph.operators[o].kind for o in step] for step in found.steps]


FULL = ["FULLY_CONNECTED", "FULLY_CONNECTED", "ADD", "TANH"]


def test_every_step_holds_what_one_cell_computes() -> None:
    net = Net()
    _elman(net, [net.tensor(1, 5) for _ in range(4)], net.tensor(1, 8))
    assert _steps(net) == [FULL] * 4


def test_a_first_step_without_a_state_is_the_first() -> None:
    net = Net()
    _elman(net, [net.tensor(1, 5) for _ in range(4)], None)
    assert _steps(net) == [["FULLY_CONNECTED", "TANH"], FULL, FULL, FULL]


def test_what_lies_before_and_behind_belongs_to_no_step() -> None:
    net = Net()
    given = net.tensor(1, 4, 5)
    inputs = [net.add("STRIDED_SLICE", given, shape=(1, 5)) for _ in range(4)]
    last = _elman(net, inputs, net.tensor(1, 8))[-1]
    head = net.add("FULLY_CONNECTED", last, net.tensor(3, 8, buffer=9), -1, shape=(1, 3))
    net.add("TANH", head, shape=(1, 3))
    net.add("TANH", last)  # as in every step, but one more than any other has
    assert _steps(net) == [FULL] * 4


def test_execution_order_does_not_decide() -> None:
    """The converter computes what the last input adds early."""
    net = Net()
    w, u = net.tensor(8, 5, buffer=2), net.tensor(8, 8, buffer=3)
    inputs = [net.tensor(1, 5) for _ in range(4)]
    early = _fc(net, inputs[3], w)
    state = net.tensor(1, 8)
    for x in inputs[:3]:
        state = net.add("TANH", net.add("ADD", _fc(net, x, w), _fc(net, state, u)))
    net.add("TANH", net.add("ADD", early, _fc(net, state, u)))
    (found,) = unrolled(net.subgraph())
    assert [len(step) for step in found.steps] == [4] * 4
    assert 0 in found.steps[3]


def test_two_layers_one_after_the_other_are_two_recurrences() -> None:
    net = Net()
    first = _elman(net, [net.tensor(1, 5) for _ in range(3)], net.tensor(1, 8))
    packed = net.add("PACK", *first, shape=(3, 1, 8))
    inputs = [net.add("GATHER", packed) for _ in range(3)]
    w, u = net.tensor(8, 8, buffer=5), net.tensor(8, 8, buffer=6)
    state = net.tensor(1, 8)
    for x in inputs:
        state = net.add("TANH", net.add("ADD", _fc(net, x, w), _fc(net, state, u)))
    found = unrolled(net.subgraph())
    assert [[len(step) for step in r.steps] for r in found] == [[4, 4, 4], [4, 4, 4]]
    assert not {o for s in found[0].steps for o in s} & {o for s in found[1].steps for o in s}


def test_branches_that_share_weights_are_no_recurrence() -> None:
    net = Net()
    w = net.tensor(8, 5, buffer=2)
    outs = [net.add("TANH", _fc(net, net.tensor(1, 5), w)) for _ in range(4)]
    net.add("ADD_N", *outs)
    assert unrolled(net.subgraph()) == ()


def test_two_calls_in_a_row_are_no_recurrence() -> None:
    net = Net()
    w = net.tensor(8, 8, buffer=2)
    _fc(net, _fc(net, net.tensor(1, 8), w), w)
    assert unrolled(net.subgraph()) == ()


def test_tensors_of_one_buffer_are_the_same_weights() -> None:
    net = Net()
    state = net.tensor(1, 8)
    for _ in range(3):
        state = net.add("TANH", _fc(net, state, net.tensor(8, 8, buffer=7)))
    assert _steps(net) == [["FULLY_CONNECTED", "TANH"]] * 3


def test_the_time_axis_of_a_fused_operator() -> None:
    net = Net()
    x = net.tensor(1, 6, 5)
    net.add("UNIDIRECTIONAL_SEQUENCE_LSTM", x, shape=(1, 6, 8), timeMajor=False)
    net.add("UNIDIRECTIONAL_SEQUENCE_RNN", x, shape=(6, 1, 8), timeMajor=True)
    net.add("SVDF", x, shape=(1, 8))
    found = sequences(net.subgraph())
    assert found == (SequenceOutput(0, 1, 1), SequenceOutput(1, 2, 0))


def test_what_treats_every_step_alike_keeps_the_time_axis() -> None:
    net = Net()
    fused = net.add("UNIDIRECTIONAL_SEQUENCE_LSTM", net.tensor(1, 6, 5), shape=(1, 6, 8))
    dense = net.add("FULLY_CONNECTED", fused, net.tensor(4, 8, buffer=2), -1, shape=(1, 6, 4))
    probabilities = net.add("SOFTMAX", dense, shape=(1, 6, 4))
    flat = net.add("FULLY_CONNECTED", dense, net.tensor(3, 24, buffer=3), -1, shape=(1, 3))
    net.add("RELU", net.add("MEAN", fused, shape=(1, 1, 8)), shape=(1, 1, 8))
    found = [s.tensor for s in sequences(net.subgraph())]
    assert found == [fused, dense, probabilities]
    assert flat not in found
