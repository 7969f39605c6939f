"""Nodes that compute the very same value become one, and keep their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfldbg.reference.twins import merge_twins


def _graph(build: Any) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf, tf.compat.v1.placeholder(tf.float32, (None, 4, 4, 2), name="given"))
    return graph.as_graph_def()


def _run(definition: Any, fetched: list[str], given: np.ndarray) -> list[np.ndarray]:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return list(session.run([f"{n}:0" for n in fetched], {"given:0": given}))


def test_branches_that_begin_alike_share_what_they_begin_with() -> None:
    def build(tf: Any, given: Any) -> None:
        for name in "ab":
            x = tf.nn.relu(tf.pad(given, [[0, 0], [1, 1], [1, 1], [0, 0]]), name=f"relu_{name}")
            tf.nn.max_pool2d(x, 3 if name == "a" else 2, 1, "VALID", name=f"pool_{name}")
            tf.argmax(x, -1, name=f"place_{name}")

    definition = _graph(build)
    wanted = ["relu_a", "relu_b", "pool_a", "pool_b", "place_b"]
    given = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    before = _run(definition, wanted, given)
    for node in definition.node:  # as in a SavedModel
        node.experimental_debug_info.original_node_names.append(node.name)
    merge_twins(definition)
    assert all(map(np.array_equal, before, _run(definition, wanted, given)))
    nodes = {n.name: n for n in definition.node}
    assert (nodes["relu_a"].op, nodes["relu_b"].op) == ("Relu", "Identity")
    assert list(nodes["relu_b"].input) == ["relu_a"]
    assert (nodes["pool_a"].op, nodes["pool_b"].op) == ("MaxPool", "MaxPool")  # of other sizes


def test_what_is_drawn_by_chance_is_no_twin() -> None:
    def build(tf: Any, given: Any) -> None:
        for name in "ab":
            tf.add(given, tf.random.uniform((4, 4, 2)), name=f"noisy_{name}")

    definition = _graph(build)
    merge_twins(definition)
    assert {n.op for n in definition.node if n.name.startswith("noisy")} == {"AddV2"}
