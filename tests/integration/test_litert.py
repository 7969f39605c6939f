"""The runtime in its child process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfldbg import record
from tfldbg.errors import RunError
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.query import choose_signature
from tfldbg.options.runtimes import RUNTIMES, Kernels
from tfldbg.rewrite.expose import expose
from tfldbg.run import status
from tfldbg.run.job import load
from tfldbg.run.litert import Program, Runner
from tfldbg.run.status import Status, measuring, status_file


def _program(path: Path, runtime: str = "xnnpack", signature: str | None = None) -> Program:
    graph = load_graph(read_file(path), path.name)
    subgraph, chosen = choose_signature(graph, signature)
    exposed = expose(graph, subgraph)
    return Program(path.name, exposed.content, Kernels(runtime), subgraph, exposed.taps, chosen)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_taps_are_what_the_interpreter_returns(samples: Path, runtime: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = samples / "dense4.tflite"
    given = np.random.default_rng(0).integers(-128, 128, (1, 28, 28)).astype(np.int8)
    program = _program(path, runtime)
    with Runner(program) as runner:
        first = runner.run([given])
        again = runner.run([given])
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(program.subgraph.inputs[0], given)
    interpreter.invoke()
    out = program.subgraph.outputs[0]
    assert np.array_equal(first[program.taps.index(out)], interpreter.get_tensor(out))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_what_is_lent_lies_where_the_next_run_writes(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = status_file()
    monkeypatch.setattr(status, "_own", Status(page.fileno()))
    program = _program(samples / "cnn.tflite")
    rng = np.random.default_rng(0)
    tensor = program.subgraph.tensors[program.subgraph.inputs[0]]
    given = [rng.integers(-128, 128, tensor.shape).astype(np.int8) for _ in range(2)]
    with measuring(), Runner(program).start() as runner:
        kept = runner.run([given[0]])
        lent = runner.run([given[0]], lend=True)
        large = max(range(len(kept)), key=lambda i: kept[i].nbytes)
        assert np.array_equal(kept[large], lent[large])
        other = runner.run([given[1]])
    assert np.array_equal(other[large], lent[large])
    assert not np.array_equal(kept[large], lent[large])


def test_a_model_that_is_refused_is_told_of_where_it_is_waited_for(shared_models: Path) -> None:
    runner = Runner(_program(shared_models / "tflite" / "litert_custom_op.tflite")).start()
    with pytest.raises(RunError, match="CustomTestOp"):
        runner.__enter__()


def test_an_abort_becomes_an_error_that_names_the_operator(shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_blockwise_quantized.tflite"
    with pytest.raises(RunError, match=r"died \(signal SIG\w+\) on .*at operator 0 ") as caught:
        record(path, path.parent / "never.h5")
    assert caught.value.hint is not None and "--runtime" in caught.value.hint


def test_an_unknown_custom_operator_is_refused_in_words(shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_custom_op.tflite"
    with (
        pytest.raises(RunError, match=r"refused .*does not have the custom operator CustomTestOp"),
        Runner(_program(path)),
    ):
        pass


@pytest.mark.parametrize("key", ["add", "multiply"])
def test_a_signature_of_another_subgraph_runs(shared_models: Path, key: str) -> None:
    path = shared_models / "tflite" / "aeq_two_signatures_a8w8.tflite"
    program = _program(path, signature=key)
    with Runner(program) as runner:
        values = runner.run([np.array([40], np.int8) for _ in program.subgraph.inputs])
    assert len(values) == len(program.taps) > 0


def test_variables_are_reset_between_samples(shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_unidir_lstm_int8.tflite"
    program = _program(path, "builtin")
    given = [np.ones(load(path).specs[0].tensor.shape, np.float32)]
    with Runner(program) as runner:
        first, second = runner.run(given), runner.run(given)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_rerun_replaces_inputs_for_once(samples: Path) -> None:
    program = _program(samples / "dense4.tflite")
    generator = np.random.default_rng(0)
    first, other = generator.integers(-128, 128, (2, 1, 28, 28)).astype(np.int8)
    with Runner(program) as runner:
        before, changed = runner.run([first]), runner.rerun({0: other})
        again, expected = runner.rerun({}), runner.run([other])
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(changed, expected, strict=True))
    assert not np.array_equal(before[-1], changed[-1])
