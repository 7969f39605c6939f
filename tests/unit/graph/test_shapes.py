"""Which tensors hold no activations: shapes, counters, and constants without elements."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.loop_file import File
from tfldbg.graph.lint import lint
from tfldbg.graph.load import load_graph
from tfldbg.graph.query import activation_inputs


def test_the_shape_of_a_scalar_is_a_constant() -> None:
    file = File()
    main = file.subgraph()
    given, empty = main.tensor("FLOAT32", [1]), main.tensor("INT32", [0])
    made = main.tensor("FLOAT32", [])
    main.operator("RESHAPE", [given, empty], [made], schema.ReshapeOptionsT())
    main.ends([given], [made])
    subgraph = load_graph(file.save()).main
    assert empty in subgraph.non_activations
    assert [t.index for t in activation_inputs(subgraph, subgraph.operators[0])] == [given]


def test_an_integer_that_a_variable_keeps_is_a_counter() -> None:
    file = File()
    main = file.subgraph()
    given, handle = main.tensor("FLOAT32", [1]), main.tensor("RESOURCE", [])
    step, seen, kept = (main.tensor(kind, [1]) for kind in ("INT64", "INT64", "FLOAT32"))
    more = main.tensor("INT64", [1], np.array([1], np.int64))
    main.operator("VAR_HANDLE", [], [handle], schema.VarHandleOptionsT())
    main.operator("READ_VARIABLE", [handle], [step], schema.ReadVariableOptionsT())
    main.operator("ADD", [step, more], [seen], schema.AddOptionsT())
    main.operator("READ_VARIABLE", [handle], [kept], schema.ReadVariableOptionsT())
    main.ends([given], [given])
    others = load_graph(file.save()).main.non_activations
    assert {step, seen} <= others
    assert kept not in others


def test_what_holds_nothing_but_zeros_needs_no_scale() -> None:
    file = File()
    main = file.subgraph()
    size = main.tensor("INT32", [2], np.array([1, 2], np.int32))
    zero = main.tensor("INT16", [], np.array(0, np.int16), 0.0)
    one = main.tensor("INT16", [], np.array(1, np.int16), 0.0)
    state, other = (main.tensor("INT16", [1, 2], None, 0.0) for _ in range(2))
    main.operator("FILL", [size, zero], [state], schema.FillOptionsT())
    main.operator("FILL", [size, one], [other], schema.FillOptionsT())
    main.ends([], [state, other])
    graph = load_graph(file.save())
    found = [(b.op, b.tensor) for b in lint(graph, graph.main) if b.rule == "impossible_scale"]
    assert set(found) == {(1, one), (1, other)}
