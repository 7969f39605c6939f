"""Kernels that copy codes: what their output means by the file's own parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tests.loop_file import File, Subgraph
from tfldbg.graph.lint import lint
from tfldbg.graph.load import load_graph

OUT = (1 / 255, -128)


def file_of(build: Any, *arguments: Any) -> bytes:
    file = File()
    main = file.subgraph()
    main.ends(*build(main, *arguments))
    return file.save()


def said(model: bytes) -> list[str]:
    graph = load_graph(model)
    return [b.message for b in lint(graph, graph.main) if b.rule == "copied_codes"]


def one_hot(main: Subgraph, on: tuple[int, float, int], off: tuple[int, float, int]) -> Any:
    """Add a ONE_HOT of three.

    Args:
        main: Where to.
        on: Code, scale and zero point of the on value.
        off: The same of the off value.
    """
    given, depth = main.tensor("INT32", [2]), main.tensor("INT32", [], np.array(3, np.int32))
    values = [
        main.tensor("INT8", [], np.array(code, np.int8), scale, zero)
        for code, scale, zero in (on, off)
    ]
    out = main.tensor("INT8", [2, 3], None, *OUT)
    options = schema.OneHotOptionsT()
    options.axis = -1
    main.operator("ONE_HOT", [given, depth, *values], [out], options)
    return [given], [out]


def diagonal(main: Subgraph, given: tuple[float, int], out: tuple[float, int]) -> Any:
    read, made = main.tensor("INT8", [2], None, *given), main.tensor("INT8", [2, 2], None, *out)
    main.operator("MATRIX_DIAG", [read], [made], schema.MatrixDiagOptionsT())
    return [read], [made]


def scattered(main: Subgraph, parameters: tuple[float, int]) -> Any:
    at = main.tensor("INT32", [2, 1], np.array([[1], [3]], np.int32))
    read = main.tensor("INT8", [2], None, *parameters)
    shape = main.tensor("INT32", [1], np.array([5], np.int32))
    made = main.tensor("INT8", [5], None, *parameters)
    main.operator("SCATTER_ND", [at, read, shape], [made], schema.ScatterNdOptionsT())
    return [read], [made]


ON, OFF = (127, *OUT), (-128, *OUT)


@pytest.mark.parametrize("off", [OFF, (-128, 0.003922, -128), (0, 0.01, 0)])
def test_one_hot_is_what_its_codes_say(off: tuple[int, float, int]) -> None:
    found = said(file_of(one_hot, ON, off))
    assert bool(found) is (off[0] == 0)
    assert all("code 0 of its off value, which is 0 by" in s and "is 0.502 by" in s for s in found)


def test_on_and_off_are_told_apart() -> None:
    (found,) = said(file_of(one_hot, (127, 1 / 127, 0), (0, 1 / 127, 0)))
    assert "off value" in found and "on value" not in found
    (found,) = said(file_of(one_hot, (64, 1 / 64, 0), OFF))
    assert "code 64 of its on value, which is 1 by" in found and "is 0.753 by" in found


def test_the_kernel_does_what_the_finding_says() -> None:
    model = file_of(one_hot, ON, (0, 1e-9, 0))
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([0, 2], np.int32))
    interpreter.invoke()
    codes = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert codes.tolist() == [[127, 0, 0], [0, 0, 127]]


def test_zeros_around_a_diagonal() -> None:
    assert said(file_of(diagonal, (0.1, 0), (0.1, 0))) == []
    (found,) = said(file_of(diagonal, (0.1, 5), (0.1, 5)))
    assert found.startswith("it writes code 0 for every zero, which is -0.5 by")
    (found,) = said(file_of(diagonal, (0.1, 5), (0.3, -7)))
    assert found.startswith("it copies the codes of its diagonal") and "which is 2.1 by" in found


def test_zeros_between_what_is_scattered() -> None:
    assert said(file_of(scattered, (0.1, 0))) == []
    (found,) = said(file_of(scattered, (0.1, 5)))
    assert found.startswith("it writes code 0 for every zero, which is -0.5 by")


def reversed_sum(main: Subgraph, given: float, out: float, zero_point: int = 9) -> Any:
    """Add a REVERSE_V2 of what two operators write, before three that read it.

    Args:
        main: Where to.
        given: Scale of what it reads.
        out: Scale of what it writes.
        zero_point: Zero point of what it writes.
    """
    read = main.tensor("INT8", [2], None, 0.03)
    parts = [main.tensor("INT8", [2], None, given, 5) for _ in range(2)]
    for part in parts:
        main.operator("ADD", [read, read], [part], schema.AddOptionsT())
    packed = main.tensor("INT8", [2, 2], None, given, 5)
    pack = schema.PackOptionsT()
    pack.valuesCount = 2
    main.operator("PACK", parts, [packed], pack)
    axis, made = main.tensor("INT32", [1], np.array([0], np.int32)), []
    turned = main.tensor("INT8", [2, 2], None, out, zero_point)
    main.operator("REVERSE_V2", [packed, axis], [turned], schema.ReverseV2OptionsT())
    for _ in range(3):
        made.append(main.tensor("INT8", [4], None, out, zero_point))
        shape = main.tensor("INT32", [1], np.array([4], np.int32))
        main.operator("RESHAPE", [turned, shape], [made[-1]], schema.ReshapeOptionsT())
    return [read], made


def test_the_one_operator_between_two_scales_is_named() -> None:
    graph = load_graph(file_of(reversed_sum, 0.01, 0.012))
    (breach,) = lint(graph, graph.main)
    assert (breach.rule, breach.op) == ("copied_codes", 3)
    assert "of scale 0.01, zero point 5, to an output of scale 0.012" in breach.message


def test_scales_that_mean_the_same_up_to_half_a_step_are_no_breach() -> None:
    assert said(file_of(reversed_sum, 0.01, 0.01001, 5)) == []
    assert len(said(file_of(reversed_sum, 0.01, 0.01001, 7))) == 1


def lstm(main: Subgraph, out: tuple[float, int], state: tuple[float, int]) -> Any:
    """Add an LSTM of the inputs that count here: what it reads, and its state."""
    read = main.tensor("INT8", [1, 4, 2], None, *OUT)
    kept = main.tensor("INT8", [1, 3], None, *state)
    made = main.tensor("INT8", [1, 4, 3], None, *out)
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    inputs = [read, *[-1] * 17, kept]
    main.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [made], options)
    return [read], [made]


def test_an_lstm_reads_its_output_as_its_state() -> None:
    parameters = (0.005, 22)
    assert not said(file_of(lstm, parameters, parameters))
    (message,) = said(file_of(lstm, parameters, (0.003, 22)))
    assert "scale 0.005, zero point 22, as its state, of scale 0.003" in message
