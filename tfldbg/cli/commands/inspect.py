"""``tfldbg inspect``."""

from __future__ import annotations

from typing import Annotated

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.reports import Reports


@o.grouped
def inspect(model: o.Model, reports: Annotated[Reports, o.some("json")]) -> None:
    """Show the operators, tensors, quantization and findings of a file, without running it."""
    from pathlib import Path

    from tfldbg.diagnose.rules import inspect_findings
    from tfldbg.graph.load import load_graph, read_file
    from tfldbg.report.inspect import draw_graph, graph_to_dict

    graph = load_graph(read_file(Path(model)), model)
    findings = tuple(inspect_findings(graph, subgraph) for subgraph in graph.subgraphs)
    json = reports.json
    if json is not None:
        from tfldbg.report.machine import write_json

        write_json(graph_to_dict(graph, findings, model), json)
    if json != "-":
        draw_graph(graph, findings, model, report_console())
