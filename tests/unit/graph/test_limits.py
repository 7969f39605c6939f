"""What a .tflite file may claim: refused when it is read, before it runs, or not at all."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.unit.graph.damage import damaged
from tfldbg.errors import DataError, ModelError, TfldbgError
from tfldbg.graph.limits import check_operands, check_runnable
from tfldbg.graph.lint import lint
from tfldbg.graph.load import load_graph
from tfldbg.graph.query import choose_signature, real_constant
from tfldbg.match.files import Index
from tfldbg.options.run_on import RunOn
from tfldbg.rewrite.expose import expose
from tfldbg.run.job import prepare


def _first(model: Any) -> Any:
    return model.subgraphs[0].operators[0]


def _tensor(model: Any, index: int) -> Any:
    return model.subgraphs[0].tensors[index]


def _weights(model: Any) -> Any:
    return _tensor(model, _first(model).inputs[1])


def _set_buffer(model: Any) -> None:
    _weights(model).buffer = 9999


def _set_input(model: Any) -> None:
    _first(model).inputs = np.array([2**31 - 1], np.int32)


def _set_code(model: Any) -> None:
    _first(model).opcodeIndex = 77


def _blocks(scales: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        params = _weights(model).quantization
        params.details = schema.BlockwiseQuantizationT()
        params.details.scales, params.details.blockSize = scales, 32
        params.detailsType = schema.QuantizationDetails.BlockwiseQuantization

    return change


def _own_blocks(model: Any) -> None:
    _blocks(int(_first(model).inputs[1]))(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set_buffer, "names buffer 9999, but the file has"),
        (_set_input, "operator 0 RESHAPE names tensor 2147483647, but subgraph 0 has"),
        (_set_code, "is damaged: .*index"),
        (_blocks(-5), "has its scales in tensor -5"),
        (_own_blocks, "holds scales, and has its own in tensor"),
    ],
)
def test_an_index_that_points_nowhere_is_refused(change: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(damaged(change))


@pytest.mark.parametrize(
    "shape", [[2**30, 2**30, 4], [0, 2**30, 2**30, 4], [2**20] * 3, [-1, -1], [-1, 8]]
)
def test_a_shape_beyond_all_addresses_is_read_but_not_run(shape: list[int]) -> None:
    def change(model: Any) -> None:
        _tensor(model, _first(model).outputs[0]).shape = np.array(shape, np.int32)
        _tensor(model, _first(model).outputs[0]).type = schema.TensorType.FLOAT32

    content = damaged(change)
    graph = load_graph(content)
    lint(graph, graph.main)
    with pytest.raises(ModelError, match="more bytes than a process"):
        prepare(content, RunOn(samples=1))


def test_a_type_that_the_schema_does_not_know_is_read_but_not_run() -> None:
    def change(model: Any) -> None:
        _tensor(model, _first(model).inputs[1]).type = -1

    content = damaged(change)
    with pytest.raises(ModelError, match="is of type -1, which is not in the TFLite schema"):
        prepare(content, RunOn(samples=1))
    assert load_graph(content).main.operators


def test_the_number_of_elements_does_not_wrap() -> None:
    def change(model: Any) -> None:
        _tensor(model, 0).shape = np.array([2**30, 2**30, 2**4], np.int32)

    assert load_graph(damaged(change)).main.tensors[0].elements == 2**64


@pytest.mark.parametrize("shape", [[1, 2**31 - 1, 2**11], [1, 2**20, 2**20]])
def test_samples_that_no_memory_holds_are_not_drawn(shape: list[int]) -> None:
    def change(model: Any) -> None:
        given = _tensor(model, model.subgraphs[0].inputs[0])
        given.shape = np.array(shape, np.int32)
        given.type = schema.TensorType.UINT8

    with pytest.raises(TfldbgError, match="no 1 random samples of that fit"):
        prepare(damaged(change), RunOn(samples=1))


def _calls(*numbers: int) -> Callable[[Any], None]:
    """Give each subgraph a composite that runs another one, by its number."""

    def change(model: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = schema.BuiltinOperator.STABLEHLO_COMPOSITE
        code.deprecatedBuiltinCode = 127
        model.operatorCodes.append(code)
        model.subgraphs = [_copy(model.subgraphs[0]) for _ in numbers]
        for subgraph, number in zip(model.subgraphs, numbers, strict=True):
            op = schema.OperatorT()
            op.opcodeIndex = len(model.operatorCodes) - 1
            op.inputs = op.outputs = subgraph.operators[0].outputs
            op.builtinOptions2 = schema.StableHLOCompositeOptionsT()
            op.builtinOptions2.decompositionSubgraphIndex = number
            op.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
            subgraph.operators.append(op)

    return change


def _copy(subgraph: Any) -> Any:
    made = schema.SubGraphT()
    vars(made).update(vars(subgraph))
    made.operators = list(subgraph.operators)
    return made


@pytest.mark.parametrize(
    ("calls", "shown"), [((0,), "0 -> 0"), ((1, 2, 1), "1 -> 2 -> 1"), ((1, 2, 0), "0 -> 1 -> 2")]
)
def test_subgraphs_that_run_each_other_without_end(calls: tuple[int, ...], shown: str) -> None:
    graph = load_graph(damaged(_calls(*calls)))
    with pytest.raises(ModelError, match=f"without end: {shown}"):
        check_runnable(graph, graph.main, "m")


def test_calls_that_end_may_be_more_than_python_can_nest() -> None:
    count = 150
    graph = load_graph(damaged(_calls(*range(1, count), 10**6)))
    assert len(graph.subgraphs) == count
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack(0)) + count - 10)
        check_runnable(graph, graph.main, "m")
    finally:
        sys.setrecursionlimit(limit)


def test_an_operator_without_its_operands_is_shown_and_no_more() -> None:
    def change(model: Any) -> None:
        _first(model).outputs = np.array([], np.int32)

    graph = load_graph(damaged(change))
    lint(graph, graph.main)
    with pytest.raises(ModelError, match="operator 0 RESHAPE of subgraph 0 has no output"):
        check_operands(graph.main, "m")


def test_a_signature_that_points_nowhere_is_refused_when_it_is_chosen() -> None:
    def change(model: Any) -> None:
        model.signatureDefs[0].inputs[0].tensorIndex = 500

    graph = load_graph(damaged(change))
    with pytest.raises(ModelError, match="refers to tensor 500"):
        choose_signature(graph, graph.signatures[0].key)


def test_a_shape_signature_of_another_rank_says_nothing() -> None:
    def change(model: Any) -> None:
        _tensor(model, 0).shapeSignature = np.array([-1, 7, 7, 7, 7], np.int32)

    tensor = load_graph(damaged(change)).main.tensors[0]
    assert tensor.shape_signature == tensor.shape


def test_outputs_that_are_left_out_are_skipped_as_the_runtime_does() -> None:
    def change(model: Any) -> None:
        model.subgraphs[0].outputs = np.array([-1, *model.subgraphs[0].outputs], np.int32)

    assert -1 not in load_graph(damaged(change)).main.outputs


def test_copies_of_each_other_have_a_root() -> None:
    def change(model: Any) -> None:
        ops = model.subgraphs[0].operators
        first, second = (op.outputs[0] for op in ops[:2])
        ops[0].inputs, ops[1].inputs = (np.array([i], np.int32) for i in (second, first))
        for op in ops[:2]:
            op.opcodeIndex = 0
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE

    graph = load_graph(damaged(change))
    first, second = (op.outputs[0] for op in graph.main.operators[:2])
    assert {Index(graph, graph.main).root(i) for i in (first, second)} <= {first, second}


def test_names_hold_no_nul() -> None:
    def change(model: Any) -> None:
        _tensor(model, 0).name = b"a\0b\xff"

    assert load_graph(damaged(change)).main.tensors[0].name == "a\ufffdb\ufffd"


def test_an_input_that_is_left_out_cannot_be_given() -> None:
    def change(model: Any) -> None:
        model.subgraphs[0].inputs = np.array([-1], np.int32)

    with pytest.raises(ModelError, match="input 0 of subgraph 0 is not a tensor"):
        check_operands(load_graph(damaged(change)).main, "m")


def _scales(count: int, axis: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[1]
        params = _tensor(model, op.inputs[1]).quantization
        params.scale = np.full(count, 0.5, np.float32)
        params.zeroPoint = np.zeros(count, np.int64)
        params.quantizedDimension = axis

    return change


@pytest.mark.parametrize(("count", "axis"), [(3, 0), (10, 7), (10, -1), (10, 2**31 - 1)])
def test_scales_that_do_not_fit_a_shape_give_no_real_values(count: int, axis: int) -> None:
    graph = load_graph(damaged(_scales(count, axis)))
    weights = graph.main.tensors[graph.main.operators[1].inputs[1]]
    assert real_constant(graph, weights) is None
    assert lint(graph, graph.main)


@pytest.mark.parametrize("size", [0, -1, 2**31 - 1])
def test_blocks_of_an_impossible_size_give_no_real_values(size: int) -> None:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[1]
        params = _tensor(model, op.inputs[1]).quantization
        params.details = schema.BlockwiseQuantizationT()
        params.details.scales, params.details.blockSize = int(op.inputs[2]), size
        params.detailsType = schema.QuantizationDetails.BlockwiseQuantization

    graph = load_graph(damaged(change))
    weights = graph.main.tensors[graph.main.operators[1].inputs[1]]
    assert real_constant(graph, weights) is None


def test_a_constant_that_an_operator_unpacks_into_itself_is_no_folded_one() -> None:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[0]
        index = model.subgraphs[0].operators[1].inputs[1]
        op.inputs = op.outputs = np.array([index], np.int32)
        code = model.operatorCodes[op.opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE

    assert load_graph(damaged(change)).main.folded_constants == frozenset()


def test_a_table_without_rows_has_no_random_index() -> None:
    def change(model: Any) -> None:
        op = _first(model)
        table = model.subgraphs[0].operators[1].inputs[1]
        _tensor(model, table).shape = np.array([0, 8], np.int32)
        given = model.subgraphs[0].inputs[0]
        _tensor(model, given).type = schema.TensorType.INT32
        _tensor(model, given).quantization = None
        op.inputs = np.array([table, given], np.int32)
        code = model.operatorCodes[op.opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER

    with pytest.raises(DataError, match="a table without rows"):
        prepare(damaged(change), RunOn(samples=1))


def test_what_lies_behind_the_tables_cannot_lie_among_them() -> None:
    def change(model: Any) -> None:
        model.buffers[1].data = None
        model.buffers[1].offset, model.buffers[1].size = 100, 4

    graph = load_graph(damaged(change))
    with pytest.raises(TfldbgError, match="among the tables"):
        expose(graph, graph.main)
