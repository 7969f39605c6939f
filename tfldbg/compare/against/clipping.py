"""What clips between operators that are checked together.

Of an operator by itself the reference is clamped to the range of its output.  Between operators
that only together have a counterpart, the reference has no value that could be clamped: where
TFLite's stands at an end of its range, all that is known is on which side of it the reference's may
lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.reference.evaluate import Floats

_RISING = frozenset(
    {"ADD", "DEQUANTIZE", "LOGISTIC", "MAXIMUM", "MINIMUM", "QUANTIZE", "RELU", "RELU6"}
    | {"RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE", "SUB", "TANH"}
)
"""Operators that make more of more, element by element; SUB less of more of what it subtracts."""


@dataclass(frozen=True, slots=True)
class Between:
    """A tensor between operators that are checked together."""

    tensor: int
    rising: bool
    """Whether more of it makes more of what the last of them yields, or less."""


def between(
    subgraph: Subgraph, joint: Mapping[int, Sequence[int]]
) -> dict[int, tuple[Between, ...]]:
    """Return by output the tensors between the operators that are checked together in it.

    Args:
        subgraph: Whose operators they are.
        joint: By output tensor the operators.
    """
    operators = {op.index: op for op in subgraph.operators}
    found = {k: _between(subgraph, k, [operators[i] for i in ops]) for k, ops in joint.items()}
    return {k: tensors for k, tensors in found.items() if tensors}


def _between(subgraph: Subgraph, output: int, together: Sequence[Operator]) -> tuple[Between, ...]:
    written = {i for op in together for i in op.outputs}
    rising = {output: True}
    for op in reversed(together):
        reached = next((i for i in op.outputs if i in rising), None)
        if reached is None or op.kind not in _RISING:
            continue
        for place, index in enumerate(op.inputs):
            same = (
                index >= 0 and subgraph.tensors[index].elements == subgraph.tensors[output].elements
            )
            if same and index in written:
                rising[index] = rising[reached] != (op.kind == "SUB" and place == 1)
    quantized = (i for i in rising if i != output and subgraph.tensors[i].lsb is not None)
    return tuple(Between(i, rising[i]) for i in quantized)


def unclipped(
    subgraph: Subgraph,
    local: Mapping[int, Floats],
    tensors: Mapping[int, Sequence[Between]],
    batch: Batch,
) -> dict[int, Floats]:
    """Return what the reference makes, without what lies beyond values that clip in between.

    There it is taken to be what TFLite has.

    Args:
        subgraph: The TFLite side.
        local: By tensor (n, ...) what the reference makes of the operators' inputs, real units.
        tensors: What `between` returned.
        batch: What TFLite made.
    """
    found = dict(local)
    for index in tensors.keys() & local.keys() & batch.real.keys():
        if local[index].size == batch.real[index].size:
            found[index] = _unclipped(subgraph, local[index], tensors[index], index, batch)
    return found


def _unclipped(
    subgraph: Subgraph, values: Floats, tensors: Sequence[Between], index: int, batch: Batch
) -> Floats:
    test = batch.real[index].reshape(values.shape)
    for tensor in tensors:
        codes = batch.codes[tensor.tensor].reshape(values.shape)
        low, high = code_range(subgraph.tensors[tensor.tensor].type)
        beyond = (codes == high) if tensor.rising else (codes == low)
        below = (codes == low) if tensor.rising else (codes == high)
        clipped = (beyond & (values > test)) | (below & (values < test))
        if clipped.any():
            values = np.where(clipped, test, values)
    return values
