"""What Model Explorer is told: which value and which colour, under which name."""

from __future__ import annotations

import json
import math
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.diagnose.evidence import evidence, operator, stats
from tfldbg.cli.commands import view
from tfldbg.diagnose.evidence import Body, Evidence, OpEvidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.errors import DataError, MissingExtraError, UsageError
from tfldbg.graph.model import Graph, Operator, Signature, Subgraph, Tensor
from tfldbg.options.judge import Thresholds
from tfldbg.report.explorer import family, node_data, write_node_data

GREEN, YELLOW, ORANGE, RED, DARK = "#c8e6c9", "#fff59d", "#ffb74d", "#ef5350", "#b71c1c"


def _tensor(index: int, name: str) -> Tensor:
    return Tensor(index, name, "INT8", (1,), (1,), None, 0, False, False)


def _subgraph(index: int, name: str, tensors: Sequence[str], operators: int = 3) -> Subgraph:
    """A chain: operator i reads tensor i and writes tensor i + 1."""
    made = tuple(_tensor(i, text) for i, text in enumerate(tensors))
    ops = tuple(Operator(i, "CONV_2D", (i,), (i + 1,), {}) for i in range(operators))
    return Subgraph(index, name, made, ops, (0,), (operators,))


def _graph(*subgraphs: Subgraph, signatures: tuple[Signature, ...] = ()) -> Graph:
    return Graph(memoryview(b""), 3, "", subgraphs, signatures, (), ())


MAIN = _subgraph(0, "main", ("in", "a", "b", "out"))


def _result(made: Evidence) -> Result:
    return Result(made, diagnose(made, Thresholds()))


def _results(made: Evidence, key: str, graph: Graph | None = None) -> dict[str, Any]:
    """Return node, value and colour of one data set in the main subgraph."""
    (data,) = node_data(_result(made), graph or _graph(MAIN))[key].values()
    return {node: (v["value"], v["bgColor"]) for node, v in data["results"].items()}


def _float(op: OpEvidence, max_abs: float) -> OpEvidence:
    found = stats(max_abs, lsb=None)
    return replace(op, type="FLOAT32", scale=None, zero_point=None, local=found, accumulated=found)


def test_the_origin_has_the_darkest_colour() -> None:
    ops = (operator(i, local=local) for i, local in enumerate((0.5, 40.0, 0.5)))
    made = evidence(*ops)
    assert _results(made, "local-error") == {
        "0": (0.5, GREEN), "1": (40.0, DARK), "2": (0.5, GREEN),
    }  # fmt: skip
    assert [v for v, _ in _results(made, "status").values()] == ["ok", "origin", "ok"]
    assert _results(made, "status")["1"][1] == DARK


@pytest.mark.parametrize(
    ("lsb", "colour"),
    [(0.75, GREEN), (0.8, YELLOW), (1.5, YELLOW), (2.0, ORANGE), (16.0, RED), (16.1, DARK)],
)
def test_errors_are_coloured_by_size_alone(lsb: float, colour: str) -> None:
    assert _results(evidence(operator(0, local=lsb)), "local-error") == {"0": (lsb, colour)}


def test_a_lower_sqnr_is_worse() -> None:
    made = evidence(*(operator(i, local=local) for i, local in enumerate((0.0, 0.5, 400.0))))
    exact, small, large = _results(made, "local-sqnr").values()
    assert exact == ("same", GREEN)
    assert small[1] == GREEN and large[1] == DARK
    assert small[0] > 30 and large[0] < 0


def test_accumulated_errors_have_a_set_of_their_own() -> None:
    made = evidence(operator(0, local=0.5, accumulated=20.0))
    assert _results(made, "accumulated-error") == {"0": (20.0, RED)}
    assert _results(made, "local-error") == {"0": (0.5, GREEN)}


def test_unchecked_operators_have_a_status_and_no_value() -> None:
    made = evidence(operator(0, local=0.5), operator(1, local=None))
    for key in ("local-error", "accumulated-error", "local-sqnr", "accumulated-sqnr"):
        assert set(_results(made, key)) == {"0"}
    assert _results(made, "status")["1"] == ("unchecked", "#e0e0e0")


def test_a_float_model_has_relative_errors() -> None:
    made = evidence(_float(operator(0, local=0.0), 0.0), _float(operator(1, local=0.0), 3.0))
    (data,) = node_data(_result(made), _graph(MAIN))["local-error"].values()
    assert data["name"] == "local error, RMSE/RMS"
    exact, wrong = _results(made, "local-error").values()
    assert exact == (0.0, GREEN)
    assert wrong[1] == DARK and 0.1 < wrong[0] < 1


def test_a_float_operator_of_a_quantized_model_has_no_lsb() -> None:
    made = evidence(operator(0, local=0.5), _float(operator(1, local=0.0), 1.0))
    assert set(_results(made, "local-error")) == {"0"}
    assert set(_results(made, "local-sqnr")) == {"0", "1"}


def test_nan_is_never_green() -> None:
    fine = operator(0, local=0.5)
    assert fine.local is not None
    broken = replace(fine, local=replace(fine.local, nan=3))
    for key in ("local-error", "local-sqnr"):
        assert _results(evidence(broken), key) == {"0": ("not finite", DARK)}


def test_of_several_outputs_the_worst_counts() -> None:
    made = evidence(operator(0, local=0.5), replace(operator(0, local=3.0), tensor=200))
    assert _results(made, "local-error") == {"0": (3.0, ORANGE)}
    other_way = evidence(*reversed(made.ops))
    assert _results(other_way, "status") == {"0": ("origin", DARK)}


def test_a_tensor_that_is_called_like_a_node_does_not_mislead() -> None:
    # Model Explorer takes the key "1" for tensor "1", which operator 2 writes.
    graph = _graph(_subgraph(0, "main", ("in", "a", "b", "1")))
    made = evidence(*(operator(i, local=local) for i, local in enumerate((0.5, 40.0, 0.5))))
    assert _results(made, "local-error", graph)["b"] == (40.0, DARK)
    assert set(_results(made, "local-error", graph)) == {"0", "b", "2"}
    unnamed = _graph(_subgraph(0, "main", ("in", "a", "a", "1")))
    assert set(_results(made, "local-error", unnamed)) == {"0", "2"}


@pytest.mark.parametrize(
    ("name", "keys", "called"),
    [("net", ("serving",), "net"), ("", ("serving",), "serving"), ("", (), "main")],
)
def test_graphs_are_called_as_model_explorer_calls_them(
    name: str, keys: tuple[str, ...], called: str
) -> None:
    signatures = tuple(Signature(key, 0, {}, {}) for key in keys)
    graph = _graph(replace(MAIN, name=name), signatures=signatures)
    assert set(node_data(_result(evidence(operator(0, local=0.5))), graph)["status"]) == {called}


def test_operators_inside_loops_are_nodes_of_their_own_graphs() -> None:
    inner = evidence(operator(0, local=0.5), operator(1, local=9.0))
    body = Body(0, "WHILE", "body", 1, 1, 5, True, None, inner)
    made = replace(evidence(operator(0, local=None)), bodies=(body,))
    graph = _graph(MAIN, replace(MAIN, index=1, name=""))
    found = node_data(_result(made), graph)
    assert set(found["status"]) == {"main", "subgraph_1"}
    assert found["local-error"]["subgraph_1"]["results"]["1"]["bgColor"] == RED
    assert found["status"]["main"]["results"]["0"]["value"] == "origin"


def test_subgraphs_of_one_name_are_not_mixed() -> None:
    inner = evidence(operator(0, local=9.0))
    body = Body(0, "WHILE", "body", 1, 1, 5, True, None, inner)
    made = replace(evidence(operator(0, local=0.5)), bodies=(body,))
    graph = _graph(MAIN, replace(MAIN, index=1))
    (data,) = node_data(_result(made), graph)["local-error"].values()
    assert data["results"]["0"]["value"] == 0.5


def test_each_data_set_is_a_file(tmp_path: Path) -> None:
    target = tmp_path / "net.v2.json"
    content = node_data(_result(evidence(operator(0, local=0.5))), _graph(MAIN))
    write_node_data(content, str(target))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "net.v2.accumulated-error.json",
        "net.v2.accumulated-sqnr.json",
        "net.v2.json",
        "net.v2.local-sqnr.json",
        "net.v2.status.json",
    ]
    assert [json.loads(p.read_text()) for p in family(target)] == list(content.values())


def test_infinite_figures_are_words() -> None:
    fine = _float(operator(0, local=0.0), 1.0)
    assert fine.local is not None
    silent = replace(fine, local=replace(fine.local, sqnr_db=None))
    assert math.isinf(silent.local.relative_rmse)
    for key in ("local-error", "local-sqnr"):
        assert _results(evidence(silent), key) == {"0": ("no signal", DARK)}


def test_without_the_package_view_says_what_to_install(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_explorer", None)
    with pytest.raises(MissingExtraError, match="needs the package ai-edge-model-explorer") as info:
        view.view(str(samples / "cnn.tflite"))
    assert info.value.hint == "python3 -m pip install 'tfldbg[explorer]'"


def test_view_refuses_what_is_no_node_data(samples: Path, tmp_path: Path) -> None:
    for name, text in (("list.json", "[1]"), ("text.json", "no"), ("missing.json", None)):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=name):
            view.view(str(samples / "cnn.tflite"), tmp_path / name)


def test_view_refuses_an_address_where_nobody_can_listen() -> None:
    with socket.create_server(("localhost", 0)) as taken, pytest.raises(UsageError, match="listen"):
        view._check_address("localhost", taken.getsockname()[1])
