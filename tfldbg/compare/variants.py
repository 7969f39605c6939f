"""Variants of an operator with one change: another option, function, or order of its tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import CHOOSING, constant, real_constant
from tfldbg.graph.windows import windows
from tfldbg.match.kinds import DIVIDING

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph

_MOST_PERMUTED, _MOST_DIVIDED, _MOST_TRANSPOSED = 3, 8, 4
"""The largest numbers of inputs, outputs and axes of which other orders are tried."""
_RESIZING = ((False, False), (True, False), (False, True))
"""The sample positions of a resize operator: ``alignCorners`` and ``halfPixelCenters``, which
exclude each other."""
_SWITCHES = ("adjX", "adjY", "approximate", "exclusive", "reverse")
"""Boolean options that do not change the shape of a square output."""
_ALIKE = (
    frozenset({"ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOG", "LOGISTIC"})
    | {"NEG", "RELU", "RELU6", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE", "TANH"},
    frozenset({"MAXIMUM", "MINIMUM"}),
    frozenset({"SQUARED_DIFFERENCE", "SUB"}),
    frozenset({"MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"}),
    frozenset({"ARG_MAX", "ARG_MIN"}),
    frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D"}),
)
"""Operators with the same kinds of inputs and outputs."""
_OF_TWO = (
    frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"}),
    frozenset({"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"}),
)
_ORDERED = frozenset({"CONCATENATION", "DIV", "FLOOR_DIV", "FLOOR_MOD", "PACK", "POW", "SUB"})
_SIGNED = frozenset({"ADD", "DIV", "MUL", "SUB"})


@dataclass(frozen=True, slots=True)
class Variant:
    """An operator with one change."""

    said: str
    """The name of the change."""
    op: Operator
    """The operator, with its tensors in the order in which they are read and written."""
    options: Mapping[str, int | bool | float] = field(default_factory=dict)
    """The changed options."""
    kind: str | None = None
    """The kind of operator that replaces it, None for its own."""
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """The replaced constants, real units."""


def variants(graph: Graph, subgraph: Subgraph, op: Operator, *, likely: bool) -> Iterator[Variant]:
    """Yield the variants of an operator with the same inputs and outputs.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        op: The operator.
        likely: True for specific variants; false for those that a change of another operator often
            also explains, as x / y is x times 1 / y.
    """
    if not likely:
        yield from _exchanged(op, _OF_TWO)
        return
    for said, options in _other_options(subgraph, op):
        yield Variant(said, op, options)
    yield from _exchanged(op, _ALIKE)
    yield from _other_orders(subgraph, op)
    yield from _other_outputs(subgraph, op)
    yield from _other_constants(graph, subgraph, op)


def _exchanged(op: Operator, families: Sequence[frozenset[str]]) -> Iterator[Variant]:
    for kinds in families:
        for kind in sorted(kinds - {op.kind}) if op.kind in kinds else ():
            yield Variant(f"{kind} instead of {op.kind}", op, kind=kind)


def _other_options(
    subgraph: Subgraph, op: Operator
) -> Iterator[tuple[str, dict[str, int | bool | float]]]:
    from ai_edge_litert import schema_py_generated as schema

    own = op.options
    for said in ("NONE", "RELU", "RELU6"):
        if own.get("fusedActivationFunction", said) != said and op.kind != "CONCATENATION":
            value = getattr(schema.ActivationFunctionType, said)
            yield f"fusedActivationFunction {said}", {"fusedActivationFunction": value}
    for said in ("SAME", "VALID"):
        if own.get("padding", said) != said and (said == "SAME" or _fits(subgraph, op)):
            yield f"padding {said}", {"padding": getattr(schema.Padding, said)}
    for align, half in _RESIZING if op.kind.startswith("RESIZE_") else ():
        if (align, half) != (bool(own.get("alignCorners")), bool(own.get("halfPixelCenters"))):
            said = f"alignCorners {align} and halfPixelCenters {half}"
            yield said, {"alignCorners": align, "halfPixelCenters": half}
    own_dilation = (own.get("dilationHFactor"), own.get("dilationWFactor"))
    for factor in (1, 2) if None not in own_dilation else ():
        if own_dilation != (factor, factor) and own.get("padding") == "SAME":
            said = f"dilation {factor}"
            yield said, {"dilationHFactor": factor, "dilationWFactor": factor}
    if own.get("beta", 1.0) != 1.0:
        yield "beta 1", {"beta": 1.0}
    for name in _SWITCHES:
        if name in own:
            yield f"{name} {not own[name]}", {name: not own[name]}
    if op.kind == "MIRROR_PAD":
        for said in ("REFLECT", "SYMMETRIC"):
            if own.get("mode", said) != said:
                yield f"mode {said}", {"mode": getattr(schema.MirrorPadMode, said)}


def _fits(subgraph: Subgraph, op: Operator) -> bool:
    """Return whether a filter is no larger than its input, so that VALID leaves some output."""
    moved = windows(subgraph, op)
    return bool(moved) and all(window.size <= window.extent for window in moved)


def _other_orders(subgraph: Subgraph, op: Operator) -> Iterator[Variant]:
    """Yield the other orders of an operator's inputs, if their order matters."""
    first = 1 if op.kind in CHOOSING else 0
    moved = op.inputs[first:]
    alike = len({subgraph.tensors[i].shape for i in moved if i >= 0}) == 1
    ordered = op.kind in _ORDERED | CHOOSING and alike
    if not ordered or not 1 < len(moved) <= _MOST_PERMUTED:
        return
    for order in itertools.permutations(range(len(moved))):
        inputs = (*op.inputs[:first], *(moved[i] for i in order))
        if inputs != op.inputs:
            numbers = ", ".join(map(str, (*range(first), *(i + first for i in order))))
            yield Variant(f"its inputs in the order {numbers}", replace(op, inputs=inputs))


def _other_outputs(subgraph: Subgraph, op: Operator) -> Iterator[Variant]:
    """Yield the exchanges of two outputs of an operator that divides a tensor."""
    if op.kind not in DIVIDING or len(op.outputs) > _MOST_DIVIDED:
        return
    for one, other in itertools.combinations(range(len(op.outputs)), 2):
        outputs = list(op.outputs)
        outputs[one], outputs[other] = outputs[other], outputs[one]
        if len({subgraph.tensors[op.outputs[i]].shape for i in (one, other)}) == 1:
            said = f"its outputs {one} and {other} exchanged"
            yield Variant(said, replace(op, outputs=tuple(outputs)))


def _other_constants(graph: Graph, subgraph: Subgraph, op: Operator) -> Iterator[Variant]:
    """Yield the operator with a constant of the other sign, or with another transposition.

    A constant of zeros, which does not change a sum, may have been cut off by its codes.
    """
    for index in op.inputs if op.kind in _SIGNED else ():
        real = real_constant(graph, subgraph.tensors[index])
        if real is not None and real.any():
            yield Variant("its constant negated", op, constants={index: -real})
        elif real is not None:
            ones = np.ones_like(real)
            yield Variant("ones in place of its zeros", op, constants={index: ones})
    order = constant(graph, subgraph.tensors[op.inputs[1]]) if op.kind == "TRANSPOSE" else None
    if order is None or order.size > _MOST_TRANSPOSED:
        return
    shape = subgraph.tensors[op.inputs[0]].shape
    written = [shape[axis] for axis in order]
    for other in itertools.permutations(range(order.size)):
        if other != tuple(order) and [shape[axis] for axis in other] == written:
            replaced = {op.inputs[1]: np.array(other, np.int32)}
            yield Variant(f"its axes in the order {list(other)}", op, constants=replaced)
