"""Third-party files are read, and only the faults that they have are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfldbg.diagnose.rules import inspect_findings
from tfldbg.errors import ModelError
from tfldbg.graph.limits import check_operands, check_runnable
from tfldbg.graph.lint import Breach, lint
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.model import Graph
from tfldbg.run.job import load

EMPTY = "litert_0_subgraphs.tflite"
UNSOUND = {
    # One scale for all channels, some of which are all but zero: untrained classes, dead units.
    ("coral_head_layers_uint8", "TFL019"),
    ("coral_mobilenet_v1_025_128_uint8", "TFL019"),
    ("mlperf_ad_dynrange", "TFL019"),
    ("mlperf_ad_fullint_float_io", "TFL019"),
    # The range that a RELU's output was given by hand reaches below zero.
    ("tflite2onnx_conv_relu_uint8", "TFL029"),
    # No runtime loads it.
    ("tflm_person_detect_int8", "TFL020"),
}
"""What is true of third-party files."""


@pytest.fixture(scope="module")
def graphs(shared_models: Path) -> dict[Path, Graph]:
    files = [p for p in sorted(shared_models.glob("**/*.tflite")) if p.name != EMPTY]
    assert len(files) > 130
    return {path: load_graph(read_file(path), path.name) for path in files}


def test_every_file_is_read_or_refused_in_words(
    graphs: dict[Path, Graph], shared_models: Path
) -> None:
    empty = read_file(shared_models / "tflite" / EMPTY)
    assert load_graph(empty).subgraphs == ()
    with pytest.raises(ModelError, match="holds no subgraph"):
        load(empty)
    assert all(graph.subgraphs for graph in graphs.values())


def test_every_file_may_claim_what_it_claims(graphs: dict[Path, Graph]) -> None:
    for path, graph in graphs.items():
        for subgraph in graph.subgraphs:
            check_operands(subgraph, path.name)
            check_runnable(graph, subgraph, path.name)


def _breaches(graph: Graph) -> list[Breach]:
    return [b for subgraph in graph.subgraphs for b in lint(graph, subgraph)]


def test_only_the_file_that_no_runtime_loads_has_breaches(graphs: dict[Path, Graph]) -> None:
    found = {p.name: b for p, graph in graphs.items() if (b := _breaches(graph))}
    assert set(found) == {"tflm_person_detect_int8.tflite"}
    assert {b.rule for b in found["tflm_person_detect_int8.tflite"]} == {"axis"}


def test_files_have_only_the_faults_that_they_have(graphs: dict[Path, Graph]) -> None:
    found = {
        (path.stem, finding.code)
        for path, graph in graphs.items()
        for finding in inspect_findings(graph, graph.main)
        if finding.severity != "info"
    }
    assert found == UNSOUND
