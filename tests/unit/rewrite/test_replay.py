"""The replay of a file: with its errors, and without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.rewrite.test_twin import _run, _values
from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Graph
from tfldbg.match.steps import own_steps
from tfldbg.rewrite.replay import Replay, Replayed, replay_model, upstream
from tfldbg.rewrite.twin import FLOAT, local_model, twins

Values = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def graph(samples: Path) -> Graph:
    return load_graph((samples / "cnn.tflite").read_bytes())


@pytest.fixture(scope="module")
def codes(samples: Path) -> Values:
    return _values(samples)


def _real(graph: Graph, codes: Values) -> Values:
    tensors = graph.main.tensors
    return {
        i: (v.astype(np.float32) - np.float32(tensors[i].zero_point)) * np.float32(tensors[i].lsb)
        for i, v in codes.items()
    }


def _corrections(graph: Graph, codes: Values) -> Values:
    """What the file makes of its own inputs, less what float arithmetic makes of them."""
    plan = own_steps(graph.main, frozenset(codes))
    model = local_model(graph, graph.main, plan.steps)
    copies = _run(bytes(model.content), [codes[i] for i in model.feeds], model.taps)
    real = _real(graph, codes)
    return {i: real[i] - copy for i, copy in zip(model.results, copies, strict=True)}


def _replayed(graph: Graph, given: tuple[int, ...] = ()) -> Replay:
    written = [i for op in graph.main.operators for i in op.outputs]
    finals = (written[-1], written[3])
    return replay_model(graph, graph.main, Replayed(finals, given, frozenset(written)), {})


def test_with_every_error_the_replay_is_the_file(graph: Graph, codes: Values) -> None:
    replay, real = _replayed(graph), _real(graph, codes)
    feeds = {**real, **_corrections(graph, codes)}
    found = _run(bytes(replay.content), [feeds[i] for i in replay.feeds], replay.taps)
    for array, op in zip(found, (graph.main.operators[-1], graph.main.operators[3]), strict=True):
        lsb = graph.main.tensors[op.outputs[0]].lsb
        assert lsb is not None
        assert np.abs(array - real[op.outputs[0]]).max() < 1e-3 * lsb


def test_without_any_error_the_replay_is_the_float_twin(graph: Graph, codes: Values) -> None:
    replay, real = _replayed(graph), _real(graph, codes)
    feeds = {i: np.zeros_like(v) if i in replay.corrected else v for i, v in real.items()}
    found = _run(bytes(replay.content), [feeds[i] for i in replay.feeds], replay.taps)
    model = twins(graph, graph.main, (FLOAT,), {})
    twin = _run(bytes(model.content), [codes[i] for i in model.feeds], model.taps)
    by_tensor = dict(zip((i for _, i in model.results), twin, strict=True))
    last, third = graph.main.operators[-1].outputs[0], graph.main.operators[3].outputs[0]
    np.testing.assert_allclose(found[0], by_tensor[last], atol=1e-5)
    np.testing.assert_allclose(found[1], by_tensor[third], atol=1e-4)


def test_what_has_no_float_copy_is_given_and_cuts_off_what_is_before(graph: Graph) -> None:
    finals = graph.main.operators[-1].outputs
    plan = Replayed(finals, (3,), frozenset(i for op in graph.main.operators for i in op.outputs))
    replay = replay_model(graph, graph.main, plan, {})
    assert graph.main.operators[3].outputs[0] in replay.feeds
    assert graph.main.operators[3].outputs[0] not in replay.corrected
    assert replay.operators == frozenset(range(3, len(graph.main.operators)))
    assert upstream(graph.main, finals, ()) - replay.operators == {0, 1, 2}


def test_a_range_is_kept_before_the_error_is_added(graph: Graph, codes: Values) -> None:
    index = graph.main.operators[3].outputs[0]
    plan = Replayed((index,), (), {index}, {index: (-0.5, 0.25)})
    replay = replay_model(graph, graph.main, plan, {})
    feeds = {**_real(graph, codes), index: np.full_like(codes[index], 2.0, np.float32)}
    (found,) = _run(bytes(replay.content), [feeds[i] for i in replay.feeds], replay.taps)
    assert (found.min(), found.max()) == (1.5, 2.25)
