"""A bias that several operators read has one scale, and their inputs may have several."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.loop_file import File
from tfldbg.graph.lint import Breach, lint
from tfldbg.graph.load import load_graph

WEIGHT, FIRST = 0.01, 0.02


def heads(scales: list[float], bias: str) -> bytes:
    """One FULLY_CONNECTED for each RELU; weights and bias are the same, quantized for ``FIRST``.

    Args:
        scales: Of what each RELU writes.
        bias: Type of the bias.
    """
    wide = bias == "INT64"
    kind = "INT16" if wide else "INT8"
    file = File()
    main = file.subgraph()
    given = main.tensor(kind, [1, 2], None, 0.03)
    weights = main.tensor("INT8", [2, 2], np.ones((2, 2), np.int8), WEIGHT)
    values = np.array([100, -50], np.int64 if wide else np.int32)
    shared = main.tensor(bias, [2], values, FIRST * WEIGHT)
    ends = []
    for scale in scales:
        read, made = main.tensor(kind, [1, 2], None, scale), main.tensor(kind, [1, 2], None, 0.5)
        main.operator("RELU", [given], [read])
        options = schema.FullyConnectedOptionsT()
        main.operator("FULLY_CONNECTED", [read, weights, shared], [made], options)
        ends.append(made)
    main.ends([given], ends)
    return file.save()


def found(model: bytes) -> tuple[Breach, ...]:
    graph = load_graph(model)
    return lint(graph, graph.main)


@pytest.mark.parametrize("bias", ["INT32", "INT64"])
def test_a_bias_that_suits_fewer_than_read_it(bias: str) -> None:
    breaches = found(heads([FIRST, 0.03, 0.04], bias))
    assert [(b.rule, b.op, b.suspect) for b in breaches] == [
        ("shared_bias", 3, None),
        ("shared_bias", 5, None),
    ]
    assert "the bias of operator 1," in breaches[0].message
    assert "it counts 1.5 times here" in breaches[0].message


@pytest.mark.parametrize("bias", ["INT32", "INT64"])
def test_a_bias_that_suits_most_accuses_the_other_input(bias: str) -> None:
    (breach,) = found(heads([FIRST, FIRST, 0.03], bias))
    assert (breach.rule, breach.op, breach.suspect) == ("bias_scale", 5, 4)


def test_a_draw_is_a_fault_of_the_16x8_converter_only() -> None:
    (breach,) = found(heads([FIRST, 0.03], "INT64"))
    assert (breach.rule, breach.op) == ("shared_bias", 3)
    (breach,) = found(heads([FIRST, 0.03], "INT32"))
    assert (breach.rule, breach.op, breach.suspect) == ("bias_scale", 3, 2)


def test_inputs_of_one_scale_may_share_a_bias() -> None:
    assert found(heads([FIRST] * 3, "INT64")) == ()
