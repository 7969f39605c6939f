"""Float copies of operators, and operators on their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Graph, QuantParams
from tfldbg.match.steps import own_steps
from tfldbg.options.run_on import RunOn
from tfldbg.rewrite.cut import cut_model
from tfldbg.rewrite.twin import (
    CLAMP,
    FAKE_QUANT,
    FLOAT,
    MODES,
    local_model,
    measuring_twin,
    twins,
    untwinned,
)
from tfldbg.run.job import prepare


@pytest.fixture(scope="module")
def graph(samples: Path) -> Graph:
    return load_graph((samples / "cnn.tflite").read_bytes())


def _run(
    model: bytes, given: list[np.ndarray], taps: tuple[int, ...], *, xnnpack: bool = False
) -> list[np.ndarray]:
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.AUTO if xnnpack else plain,
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), given, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(i)) for i in taps]


def _values(samples: Path, *, xnnpack: bool = False) -> dict[int, np.ndarray]:
    """Every tensor of the CNN for one digit, as codes."""
    data = samples / "digits.npz"
    job = prepare(samples / "cnn.tflite", RunOn(data=data, samples=1))
    given, content = job.samples.codes(0), bytes(job.exposed.content)
    found = _run(content, given, job.exposed.taps, xnnpack=xnnpack)
    return dict(zip((*job.subgraph.inputs, *job.exposed.taps), (*given, *found), strict=True))


def test_the_cut_operators_give_the_codes_of_the_whole_model(graph: Graph, samples: Path) -> None:
    values = _values(samples)
    plan = own_steps(graph.main, frozenset(values), stored=True)
    assert len(plan.steps) == len(graph.main.operators)
    model = cut_model(graph, graph.main, plan.steps)
    found = _run(bytes(model.content), [values[i] for i in model.feeds], model.taps)
    for index, array in zip(model.results, found, strict=True):
        assert np.array_equal(array, values[index]), graph.main.tensors[index].name


def test_the_float_copies_are_within_half_a_step(graph: Graph, samples: Path) -> None:
    values = _values(samples)
    plan = own_steps(graph.main, frozenset(values))
    model = local_model(graph, graph.main, plan.steps)
    found = _run(bytes(model.content), [values[i] for i in model.feeds], model.taps)
    for index, array in zip(model.results, found, strict=True):
        tensor = graph.main.tensors[index]
        assert (
            array.dtype == np.float32 and tensor.lsb is not None and tensor.zero_point is not None
        )
        low, high = (np.float32((c - tensor.zero_point) * tensor.lsb) for c in (-128, 127))
        real = (values[index].astype(np.float32) - tensor.zero_point) * tensor.lsb
        assert np.abs(np.clip(array, low, high) - real).max() <= 0.75 * tensor.lsb


def test_the_rounded_twin_is_the_integer_model(graph: Graph, samples: Path) -> None:
    values = _values(samples, xnnpack=True)
    model = twins(graph, graph.main, MODES, {})
    found = _run(bytes(model.content), [values[i] for i in model.feeds], model.taps)
    by_mode: dict[str, list[float]] = {FLOAT: [], CLAMP: [], FAKE_QUANT: []}
    for (mode, index), array in zip(model.results, found, strict=True):
        tensor = graph.main.tensors[index]
        assert tensor.lsb is not None and tensor.zero_point is not None
        real = (values[index].astype(np.float32) - tensor.zero_point) * tensor.lsb
        by_mode[mode].append(float(np.abs(array - real).max() / tensor.lsb))
    assert max(by_mode[FAKE_QUANT]) < 0.01
    assert sum(by_mode[FAKE_QUANT]) < sum(by_mode[CLAMP]) <= sum(by_mode[FLOAT])


def test_what_has_no_float_copy_is_given(graph: Graph) -> None:
    model = twins(graph, graph.main, (FLOAT,), {3: "for the test"})
    out = graph.main.operators[3].outputs[0]
    assert out in model.feeds
    assert (FLOAT, out) not in model.results


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("litert_resource_vars_calibrated.tflite", "READ_VARIABLE"),
        ("aeq_simple_composite.tflite", "STABLEHLO_COMPOSITE"),
    ],
)
def test_what_computes_nothing_of_its_own_is_not_copied(
    name: str, kind: str, shared_models: Path
) -> None:
    subgraph = load_graph((shared_models / "tflite" / name).read_bytes()).main
    found = [op for op in subgraph.operators if op.kind == kind]
    assert found
    assert all(untwinned(subgraph, op) for op in found)


def test_other_parameters_round_every_value_and_the_inputs(graph: Graph, samples: Path) -> None:
    tensors = graph.main.tensors
    written = [i for op in graph.main.operators for i in op.outputs]
    step = np.float32(0.25)
    others = {
        i: QuantParams(np.array([step]), np.array([0], np.int64))
        for i in (*graph.main.inputs, *written)
    }
    model = twins(graph, graph.main, (FAKE_QUANT,), {}, parameters=others)
    image = np.load(samples / "digits.npz")["x"][:1].astype(np.float32)
    given = image.reshape(tensors[graph.main.inputs[0]].shape)
    found = _run(bytes(model.content), [given], model.taps)
    for array in found:
        assert np.array_equal(array, np.round(array / step) * step)
    before = measuring_twin(graph, graph.main, {}, others)
    raw = _run(bytes(before.content), [given], before.taps)
    for one, other in zip(raw, found, strict=True):
        inside = np.abs(one) < 127 * step
        assert np.abs(one - other)[inside].max() <= 0.5001 * step
    assert any(not np.array_equal(one, other) for one, other in zip(raw, found, strict=True))


def test_measuring_without_parameters_is_the_float_twin(graph: Graph, samples: Path) -> None:
    image = np.load(samples / "digits.npz")["x"][:1].astype(np.float32)
    given = [image.reshape(graph.main.tensors[graph.main.inputs[0]].shape)]
    measured = measuring_twin(graph, graph.main, {}, None)
    float_twin = twins(graph, graph.main, (FLOAT,), {}, parameters={})
    assert measured.results == float_twin.results
    pairs = zip(
        _run(bytes(measured.content), given, measured.taps),
        _run(bytes(float_twin.content), given, float_twin.taps),
        strict=True,
    )
    assert all(np.array_equal(one, other) for one, other in pairs)
