"""``tfldbg inspect``."""

from __future__ import annotations

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console


def inspect(model: o.Model, json: o.Json = None) -> None:
    """Show a file's operators, tensors and quantization, and the rules it breaks; runs nothing."""
    from pathlib import Path

    from tfldbg.graph.lint import lint
    from tfldbg.graph.load import load_graph, read_file
    from tfldbg.report.inspect import draw_graph, graph_to_dict

    graph = load_graph(read_file(Path(model)), model)
    breaches = tuple(lint(graph, subgraph) for subgraph in graph.subgraphs)
    if json is not None:
        from tfldbg.report.machine import write_json

        write_json(graph_to_dict(graph, breaches, model), json)
    if json != "-":
        draw_graph(graph, breaches, model, report_console())
