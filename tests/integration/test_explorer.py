"""Model Explorer itself, where it is installed, beside the node data that is written for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tfldbg
from tests.loop_file import LOOP, loop_file
from tfldbg import session
from tfldbg.graph.load import load_graph
from tfldbg.report.explorer import family, node_data

SIZES = ["#c8e6c9", "#fff59d", "#ffb74d", "#ef5350", "#b71c1c"]
NODE_DATA = "api/v1/load_node_data?node_data_index="
OTHERS = (
    "litert_2_subgraphs",
    "litert_multi_signature_js",
    "litert_qwen_fc_blockwise_int4",
    "litert_pc_conv_int8",
    "litert_custom_sinh",
    "aeq_duplicated_names",
)
"""Subgraphs without names, with the names of signatures, custom operators, tensors of one name."""


@pytest.fixture(scope="module")
def traced(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node data of the sample whose operator 5 has a negated channel."""
    target = tmp_path_factory.mktemp("explorer") / "net.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "tfldbg", "trace", samples / "cnn_negated_channel.tflite",
            "--keras", samples / "cnn.h5", "--data", samples / "digits.npz", "--samples", "8",
            "--model-explorer", target, "--dump", target.with_suffix(".h5"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return target


def _installed() -> Any:
    return pytest.importorskip(
        "model_explorer", reason="ai-edge-model-explorer (half a gigabyte) is not installed"
    )


def _nodes(path: Path) -> dict[str, dict[str, str]]:
    """Return by graph and node the label that Model Explorer's adapter gives it."""
    _installed()
    from model_explorer.builtin_tflite_flatbuffer_adapter import BuiltinTfliteFlatbufferAdapter

    made = BuiltinTfliteFlatbufferAdapter().convert(str(path), {})
    graphs = [g for collection in made["graphCollections"] for g in collection.graphs]
    return {g["id"]: {n["id"]: n["label"] for n in g["nodes"]} for g in graphs}


def test_the_origin_is_the_dark_one(traced: Path) -> None:
    local = json.loads(traced.read_text())["main"]["results"]
    assert len(local) == 12
    assert [op for op, found in local.items() if found["bgColor"] != SIZES[0]] == ["5"]
    assert local["5"]["bgColor"] == SIZES[-1]
    status = json.loads(family(traced)[-1].read_text())["main"]["results"]
    assert [found["value"] for found in status.values()] == 5 * ["ok"] + ["origin"] + 6 * [
        "inherited"
    ]


def test_a_recording_gives_the_same(traced: Path, tmp_path: Path) -> None:
    run, again = traced.with_suffix(".h5"), tmp_path / "again.json"
    done = subprocess.run(
        [sys.executable, "-m", "tfldbg", "report", run, "--model-explorer", again],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    for written, drawn in zip(family(traced), family(again), strict=True):
        assert written.read_text() == drawn.read_text()


def test_a_recording_of_another_file_is_refused(traced: Path, samples: Path) -> None:
    result = session.load_trace(traced.with_suffix(".h5"))
    with pytest.raises(tfldbg.TfldbgError, match="is not the file that was traced"):
        session.node_data(result, samples / "cnn.tflite")
    run = replace(result.evidence.run, model_path="moved.tflite")
    moved = replace(result, evidence=replace(result.evidence, run=run))
    with pytest.raises(tfldbg.TfldbgError, match="does not exist") as info:
        session.node_data(moved)
    assert info.value.hint is not None and "tfldbg view MODEL.tflite RUN.h5" in info.value.hint
    assert session.node_data(moved, samples / "cnn_negated_channel.tflite")


def test_another_suffix_is_refused_before_anything_runs(samples: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tfldbg", "trace", samples / "cnn.tflite",
            "--model-explorer", samples / "cnn.h5",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "must end in .json" in done.stderr and not done.stdout


def test_model_explorers_own_classes_take_the_files(traced: Path) -> None:
    _installed()
    from model_explorer import node_data_builder as builder

    for file in family(traced):
        for content in json.loads(file.read_text()).values():
            results = {k: builder.NodeDataResult(**v) for k, v in content.pop("results").items()}
            data = builder.GraphNodeData(results=results, **content)
            again = json.loads(builder.ModelNodeData({"main": data}).to_json_string())
            assert again["main"]["results"] == json.loads(file.read_text())["main"]["results"]


def test_every_key_is_an_operator_of_the_adapters_graph(traced: Path, samples: Path) -> None:
    model = samples / "cnn_negated_channel.tflite"
    nodes = _nodes(model)["main"]
    kinds = {str(op.index): op.kind for op in load_graph(model.read_bytes()).main.operators}
    for file in family(traced):
        results = json.loads(file.read_text())["main"]["results"]
        assert {key: nodes[key].upper() for key in results} == kinds


def test_loops_are_graphs_of_their_own(tmp_path: Path) -> None:
    model = tmp_path / "loop.tflite"
    model.write_bytes(loop_file(bias_factor=1.5))
    nodes = _nodes(model)
    graph = load_graph(model.read_bytes())
    status = node_data(tfldbg.trace(model, samples=2), graph)["status"]
    assert len(status) == len(graph.subgraphs) == 3
    for name, content in status.items():
        assert set(content["results"]) <= set(nodes[name])
    assert status[graph.main.name or "main"]["results"][str(LOOP)]["value"] == "origin"


@pytest.mark.parametrize("name", OTHERS)
def test_the_adapter_numbers_operators_in_any_file(shared_models: Path, name: str) -> None:
    from tfldbg.report import explorer

    path = shared_models / "tflite" / f"{name}.tflite"
    graph, nodes = load_graph(path.read_bytes()), _nodes(path)
    assert [explorer._graph_id(graph, s.index) for s in graph.subgraphs] == list(nodes)
    for subgraph, labels in zip(graph.subgraphs, nodes.values(), strict=True):
        for op in subgraph.operators:
            assert labels[str(op.index)].upper() == op.kind.upper()


def test_view_serves_the_page_until_ctrl_c(traced: Path, samples: Path) -> None:
    _installed()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable, "-u", "-m", "tfldbg", "view", samples / "cnn_negated_channel.tflite",
            traced, "--no-browser", "--port", str(port),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        _await(port)
        assert b"Model Explorer" in _fetch(port, "")
        sets = [json.loads(_fetch(port, f"{NODE_DATA}{i}"))["content"] for i in range(5)]
        shown_last = [json.loads(content) for content in reversed(sets)]
        assert shown_last == [json.loads(file.read_text()) for file in family(traced)]
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "builtin_tflite_flatbuffer" in out
    assert "Traceback" not in out + err


def _await(port: int) -> None:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the server did not start within a minute")


def _fetch(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://localhost:{port}/{path}", timeout=30) as answer:
        return bytes(answer.read())


def test_without_the_package_the_command_says_what_to_install(
    samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "model_explorer.py").write_text("raise ModuleNotFoundError('hidden')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tfldbg", "view", samples / "cnn.tflite"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "hint: python3 -m pip install 'tfldbg[explorer]'" in done.stderr
