"""The output of ``tfldbg inspect``: a file's subgraphs, operators, quantization and findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfldbg.diagnose.model import Finding
from tfldbg.diagnose.words import number, short
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, QuantParams, Subgraph, Tensor

_FORMAT_VERSION = 1

Findings = tuple[tuple[Finding, ...], ...]
"""The findings from the file alone, one entry per subgraph."""


def quantization(tensor: Tensor) -> str:
    """Return the quantization of a tensor in a few words."""
    params = tensor.quant
    if params is None:
        return "-"
    if params.block_size is not None:
        return f"blockwise, {params.block_size} per block"
    if params.per_tensor:
        return f"{number(float(params.scale[0]))}, {int(params.zero_point[0])}"
    low, high = float(params.scale.min()), float(params.scale.max())
    return f"per channel x{params.scale.size}: {number(low)}..{number(high)}"


def draw_graph(graph: Graph, findings: Findings, name: str, console: Console) -> None:
    """Print the file, then its findings."""
    wrap = not console.is_terminal
    console.print(Text(printable(f"{name}: {_summary(graph)}")), soft_wrap=wrap)
    for signature in graph.signatures:
        inputs, outputs = ", ".join(signature.inputs), ", ".join(signature.outputs)
        line = f"signature '{signature.key}' (subgraph {signature.subgraph}): {inputs} -> {outputs}"
        console.print(Text(printable(line)), soft_wrap=wrap)
    for subgraph in graph.subgraphs:
        console.print()
        title = (
            f"subgraph {subgraph.index} '{subgraph.name}'"
            if subgraph.name
            else f"subgraph {subgraph.index}"
        )
        console.print(Text(printable(title), style="bold"))
        for word, indices in (("input", subgraph.inputs), ("output", subgraph.outputs)):
            for index in (i for i in indices if i >= 0):
                line = f"  {word:<6} {_tensor_line(subgraph.tensors[index])}"
                console.print(Text(printable(line)), soft_wrap=wrap)
        console.print(_table(subgraph))
    lines = list(_finding_lines(graph, findings))
    if lines:
        console.print(Text("findings:", style="bold"))
    for line in lines:
        console.print(Text(printable(f"  {line}")), soft_wrap=wrap)


def _finding_lines(graph: Graph, findings: Findings) -> Iterator[str]:
    for subgraph, found in zip(graph.subgraphs, findings, strict=True):
        where = f"subgraph {subgraph.index}, " if len(graph.subgraphs) > 1 else ""
        for finding in found:
            yield f"{finding.code} {finding.severity}: {where}{finding.message}"


def _summary(graph: Graph) -> str:
    operators = sum(len(s.operators) for s in graph.subgraphs)
    external = sum(b.external for b in graph.buffers)
    said = f"{len(graph.data):,} bytes, {len(graph.subgraphs)} subgraphs, {operators} operators"
    said += f", {external} buffers after the flatbuffer" if external else ""
    beside = ", ".join(f"'{printable(name)}'" for name in graph.beside)
    return said + (f", constants in other files: {beside}" if beside else "")


def _tensor_line(tensor: Tensor) -> str:
    return (
        f"tensor {tensor.index} '{tensor.name}' {tensor.type} {list(tensor.shape_signature)} "
        f"scale, zero point: {quantization(tensor)}"
    )


def _table(subgraph: Subgraph) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    drawn.add_column("op", justify="right", no_wrap=True)
    for title in ("kind", "tensor", "type, shape", "scale, zero point", "weights"):
        drawn.add_column(title, overflow="fold")
    for op in subgraph.operators:
        for out in (i for i in op.outputs if i >= 0):
            tensor = subgraph.tensors[out]
            cells = (
                str(op.index),
                _kind(op),
                f"{out} {short(tensor.name)}",
                f"{tensor.type} {'x'.join(map(str, tensor.shape)) or 'scalar'}",
                quantization(tensor),
                _weights(subgraph, op),
            )
            drawn.add_row(*(Text(printable(cell)) for cell in cells))
    return drawn


def _kind(op: Operator) -> str:
    activation = op.options.get("fusedActivationFunction", "NONE")
    return op.kind if activation == "NONE" else f"{op.kind} + {activation}"


def _weights(subgraph: Subgraph, op: Operator) -> str:
    constants = [subgraph.tensors[i] for i in op.inputs if i >= 0 and subgraph.tensors[i].has_data]
    quantized = [t for t in constants if t.quant is not None]
    if not quantized:
        return "-"
    return f"{quantized[0].type} {quantization(quantized[0])}"


def graph_to_dict(graph: Graph, findings: Findings, name: str) -> dict[str, Any]:
    """Return the file and its findings as the JSON of format ``tfldbg.inspect``."""
    return {
        "format": "tfldbg.inspect",
        "format_version": _FORMAT_VERSION,
        "model": {"path": name, "bytes": len(graph.data), "description": graph.description},
        "signatures": [
            {
                "key": s.key,
                "subgraph": s.subgraph,
                "inputs": dict(s.inputs),
                "outputs": dict(s.outputs),
            }
            for s in graph.signatures
        ],
        "metadata": list(graph.metadata),
        "subgraphs": [_subgraph_dict(s) for s in graph.subgraphs],
        "findings": [
            {"subgraph": subgraph.index, **finding.to_dict()}
            for subgraph, found in zip(graph.subgraphs, findings, strict=True)
            for finding in found
        ],
    }


def _subgraph_dict(subgraph: Subgraph) -> dict[str, Any]:
    return {
        "index": subgraph.index,
        "name": subgraph.name,
        "inputs": list(subgraph.inputs),
        "outputs": list(subgraph.outputs),
        "ops": [
            {
                "op": op.index,
                "kind": op.kind,
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
                "options": {k: _plain(v) for k, v in op.options.items()},
            }
            for op in subgraph.operators
        ],
        "tensors": [_tensor_dict(t) for t in subgraph.tensors],
    }


def _tensor_dict(tensor: Tensor) -> dict[str, Any]:
    return {
        "tensor_index": tensor.index,
        "tensor": tensor.name,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "shape_signature": list(tensor.shape_signature),
        "constant": tensor.has_data,
        "variable": tensor.is_variable,
        "quantization": _quant_dict(tensor.quant),
    }


def _quant_dict(params: QuantParams | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {
        "scale": [float(s) for s in params.scale],
        "zero_point": [int(z) for z in params.zero_point],
        "quantized_dimension": params.axis if params.stated_axis is None else params.stated_axis,
        "block_size": params.block_size,
    }


def _plain(value: Any) -> Any:
    """Return an option as a JSON value."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else str(value)
