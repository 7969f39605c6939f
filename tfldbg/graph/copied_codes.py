"""Operators whose kernels copy codes, or fill in code 0, without reading scales.

The converter quantizes their inputs and outputs like any other tensor, each with its own range.
(LiteRT, ``one_hot.cc``: ``*output = indices == j ? on_value : off_value``;
``matrix_diag.cc``: ``out = i == j ? in : 0``; ``matrix_set_diag.cc``, ``sparse_to_dense.cc``,
``scatter_nd.cc``; ``lstm_eval.cc`` copies each step's output to the state that the next one reads.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tfldbg.graph.breach import ACTIVATIONS, Breach, in_words, input_of, output_of, parameters_of
from tfldbg.graph.query import constant

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_COPIED: Mapping[str, Mapping[int, str]] = {
    "MATRIX_DIAG": {0: "diagonal"},
    "MATRIX_SET_DIAG": {0: "input", 1: "diagonal"},
    "ONE_HOT": {2: "on value", 3: "off value"},
    "SPARSE_TO_DENSE": {2: "values", 3: "default value"},
}
"""The inputs whose codes are copied, by operator kind.  `tfldbg.graph.votes` checks all others."""
_ZERO_FILLED = frozenset({"MATRIX_DIAG", "SCATTER_ND"})
"""The operators that write code 0 where nothing is copied."""
_STATES: Mapping[str, int] = {"LSTM": 18, "UNIDIRECTIONAL_SEQUENCE_LSTM": 18}
"""The input that keeps the codes of the output for the next step, by operator kind."""
_HALF_STEP = 0.5


def misread_codes(graph: Graph, subgraph: Subgraph) -> Iterator[Breach]:
    """Yield the operators whose output gives the codes that they copy another meaning.

    Args:
        graph: The file.
        subgraph: The subgraph.
    """
    for op in subgraph.operators:
        out = output_of(subgraph, op)
        if out is None or out.type not in ACTIVATIONS or parameters_of(out) is None:
            continue
        said = [*_copied(graph, subgraph, op, out), *_filled(op, out), *_kept(subgraph, op, out)]
        if said:
            yield Breach("copied_codes", op.index, out.index, None, "; ".join(said))


def _copied(graph: Graph, subgraph: Subgraph, op: Operator, out: Tensor) -> Iterator[str]:
    for number, role in _COPIED.get(op.kind, {}).items():
        given = input_of(subgraph, op, number)
        have = None if given is None else parameters_of(given)
        if given is None or have is None or given.type != out.type:
            continue
        codes = constant(graph, given) if given.has_data else None
        if codes is not None and codes.size == 1:
            yield from _misread(int(codes.reshape(-1)[0]), role, have, out)
        elif have != parameters_of(out):
            yield (
                f"it copies the codes of its {role}, of {in_words(have)}, to an output of "
                f"{_words(out)}"
            )


def _misread(code: int, role: str, have: tuple[float, int], out: Tensor) -> Iterator[str]:
    """Yield what a constant's code becomes, unless it keeps its value except for rounding."""
    scale, zero_point = parameters_of(out) or have
    meant, read = have[0] * (code - have[1]), scale * (code - zero_point)
    if abs(meant - read) > _HALF_STEP * scale:
        yield (
            f"it copies code {code} of its {role}, which is {meant:.3g} by {in_words(have)}, to an "
            f"output where it is {read:.3g} by {_words(out)}"
        )


def _filled(op: Operator, out: Tensor) -> Iterator[str]:
    affine = out.affine
    if op.kind in _ZERO_FILLED and affine is not None and affine.zero_point:
        yield (
            f"it writes code 0 for every zero, which is {-affine.scale * affine.zero_point:.3g} by "
            f"{_words(out)}"
        )


def _kept(subgraph: Subgraph, op: Operator, out: Tensor) -> Iterator[str]:
    state = input_of(subgraph, op, _STATES[op.kind]) if op.kind in _STATES else None
    have = None if state is None else parameters_of(state)
    if have is not None and have != parameters_of(out):
        yield (
            f"it keeps the codes of its output, of {_words(out)}, as its state, of "
            f"{in_words(have)}, which the next step reads"
        )


def _words(tensor: Tensor) -> str:
    return in_words(parameters_of(tensor) or (0.0, 0))
