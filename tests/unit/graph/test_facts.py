"""The facts that follow from a subgraph alone."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Subgraph


@pytest.fixture
def subgraph(samples: Path) -> Subgraph:
    return load_graph((samples / "cnn.tflite").read_bytes()).main


def test_a_fact_is_computed_once(subgraph: Subgraph) -> None:
    for name in ("producers", "consumers", "live", "non_activations"):
        assert getattr(subgraph, name) is getattr(subgraph, name)


def test_a_changed_copy_has_facts_of_its_own(subgraph: Subgraph) -> None:
    last = subgraph.operators[-1]
    assert subgraph.producers[last.outputs[0]] is last
    shorter = replace(subgraph, operators=subgraph.operators[:-1])
    assert last.outputs[0] not in shorter.producers
    assert last.outputs[0] not in shorter.live


def test_a_pickle_holds_the_fields_alone(subgraph: Subgraph) -> None:
    before = pickle.dumps(subgraph)
    assert len(subgraph.consumers) > 1
    assert subgraph.non_activations is not None
    after = pickle.dumps(subgraph)
    assert after == before
    copy = pickle.loads(after)
    assert copy.name == subgraph.name
    assert copy.producers.keys() == subgraph.producers.keys()


def test_the_live_tensors_are_inputs_and_what_operators_write(subgraph: Subgraph) -> None:
    constants = {t.index for t in subgraph.tensors if t.has_data}
    assert subgraph.live == {t.index for t in subgraph.tensors} - constants
