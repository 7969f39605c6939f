"""Try what would make an operator agree: other kernels, other options, other inputs' order.

An operator that differs is run by itself, on the inputs that it really had: as it stands in the
file under the other sets of kernels, and as a float copy with one thing changed.  What then agrees
with the reference tells the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.compare.batch import Batch, Computed, in_real_units
from tfldbg.errors import RunError
from tfldbg.match.steps import given
from tfldbg.rewrite.cut import cut_model
from tfldbg.rewrite.twin import LocalModel, Step, local_model, untwinned
from tfldbg.run.derived import FLOAT_KERNELS, DerivedRunner, derived_program
from tfldbg.run.runtimes import LITERT, Kernels

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

Floats = NDArray[np.float32]
_MOST_PERMUTED = 3
_RESIZING = ((False, False), (True, False), (False, True))
"""How a resize operator may place its samples: ``alignCorners`` and ``halfPixelCenters``, which
exclude each other."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator, run by itself in another way."""

    op: int
    tensor: int
    kind: Literal["runtime", "option"]
    value: str
    """The kernels, or what was changed."""
    max_abs: float
    """Largest difference from the reference, real units."""
    max_lsb: float | None
    agrees: bool
    """Whether arithmetic explains that, while it does not explain the difference in the trace."""
    as_traced: bool
    """Whether the values are those of the trace, to the same limit."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """An operator that differs from its reference."""

    tensor: Tensor
    """What it writes."""
    step: Step
    """How it is run by itself."""
    wanted: Floats
    """(n, ...) what the reference makes of the operator's inputs, real units."""
    traced: Floats
    """(n, ...) what was traced makes of them, real units."""
    limit: float
    """The difference that arithmetic explains, real units."""


def suspects(
    subgraph: Subgraph, limits: Mapping[int, float], batch: Batch, computed: Computed
) -> list[Suspect]:
    """Return the operators that can be run by themselves.

    Args:
        subgraph: The traced file's.
        limits: By tensor that they write the difference that arithmetic explains, real units.
        batch: What the operators read: some samples, as TFLite computed them, or recorded.
        computed: What the reference made of the operators' inputs on the same samples.
    """
    found = []
    wanted, traced = computed.local, {**batch.real, **computed.tested}
    for op in subgraph.operators:
        for index in (i for i in op.outputs if i in limits and i in wanted):
            feeds = {t.index: _as_it_ran(t, batch) for t in given(subgraph, op)}
            feeds |= {i: subgraph.tensors[i] for i in op.inputs if i in batch.states}
            known = all(i in batch.codes or i in batch.states for i in feeds)
            if untwinned(subgraph, op) is None and known and index in batch.codes:
                step = Step(op, feeds, {index: index})
                tensor = subgraph.tensors[index]
                sides = wanted[index], traced[index]
                found.append(Suspect(tensor, step, *sides, limits[index]))
    return found


def _as_it_ran(tensor: Tensor, batch: Batch) -> Tensor:
    values = batch.codes.get(tensor.index)
    return tensor if values is None else replace(tensor, shape=values.shape[1:])


def try_kernels(
    graph: Graph, subgraph: Subgraph, suspect: Suspect, batch: Batch, kernels: Kernels
) -> tuple[Trial, ...]:
    """Run one operator under the other kernels of LiteRT.

    Args:
        graph: The traced file.
        subgraph: Its subgraph.
        suspect: The operator.
        batch: The samples that the suspect was made from.
        kernels: Who computed the trace.
    """
    trials = []
    alone = cut_model(graph, subgraph, [suspect.step])
    for name in LITERT:
        if Kernels(name) == kernels:
            continue
        for values in run_alone(alone, batch, Kernels(name)):
            real = in_real_units(suspect.tensor, values)
            trials.append(_judged("runtime", name, suspect, real))
    return tuple(trials)


def try_options(
    graph: Graph, subgraph: Subgraph, suspect: Suspect, batch: Batch
) -> tuple[Trial, ...]:
    """Run the float copy of one operator with each other option.

    Args:
        graph: The traced file.
        subgraph: Its subgraph.
        suspect: The operator.
        batch: The samples that the suspect was made from.
    """
    variants = dict(_variants(subgraph, suspect.step))
    steps = [
        replace(step, results=dict.fromkeys(step.results, key))
        for key, step in enumerate(variants.values())
    ]
    model = local_model(graph, subgraph, steps) if steps else None
    changed = run_alone(model, batch, FLOAT_KERNELS) if model is not None else []
    return tuple(
        _judged("option", said, suspect, values.astype(np.float32))
        for said, values in zip(variants, changed, strict=False)
    )


def run_alone(model: LocalModel, batch: Batch, kernels: Kernels) -> list[NDArray[Any]]:
    """Return (n, ...) of each result, nothing where the runtime refuses the operator.

    Args:
        model: The operator by itself.
        batch: What it reads.
        kernels: Who computes it.
    """
    program = derived_program("an operator by itself", model.content, model.taps, kernels)
    try:
        runner = DerivedRunner(program, model.feeds)
    except RunError:
        return []  # that these kernels do not take it says nothing about the values
    try:
        return runner.run(*batch.given, batch.stop - batch.start)
    except RunError:
        return []
    finally:
        runner.close()


def _judged(
    kind: Literal["runtime", "option"], said: str, suspect: Suspect, values: Floats
) -> Trial:
    tensor, traced = suspect.tensor, suspect.traced
    off = _distance(tensor, suspect.wanted, values)
    limit = suspect.limit
    moved = _distance(tensor, suspect.wanted, traced)
    return Trial(
        op=suspect.step.op.index,
        tensor=tensor.index,
        kind=kind,
        value=said,
        max_abs=off,
        max_lsb=off / tensor.lsb if tensor.lsb else None,
        agrees=off <= limit < moved,
        as_traced=_distance(tensor, traced, values) <= 1.01 * limit,
    )


def _distance(tensor: Tensor, one: Floats, other: Floats) -> float:
    """Return the largest difference, both sides clamped to the tensor's range; inf if no number."""
    if one.size != other.size:
        return float("inf")
    sides = [one.reshape(-1), other.reshape(-1)]
    if tensor.lsb is not None and tensor.zero_point is not None:
        ends = quant.real_range(tensor.type, tensor.lsb, tensor.zero_point)
        sides = [np.clip(side, *ends) for side in sides]
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(sides[0] - sides[1]).max(initial=0.0))
    return largest if largest == largest else float("inf")


def _variants(subgraph: Subgraph, step: Step) -> Iterator[tuple[str, Step]]:
    """Yield the float copies of an operator with one thing changed, each with how it is called."""
    for said, options in _other_options(subgraph, step.op):
        yield said, replace(step, options=options)
    yield from _other_orders(subgraph, step)


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


def _fits(subgraph: Subgraph, op: Operator) -> bool:
    """Whether a filter is no larger than what it is moved over, so that VALID leaves something."""
    if op.kind == "TRANSPOSE_CONV":
        return False  # its output shape is an input, which would contradict
    given_shape = subgraph.tensors[op.inputs[0]].shape
    sizes: tuple[int, ...] = (op.options.get("filterHeight", 0), op.options.get("filterWidth", 0))
    if len(op.inputs) > 1:
        sizes = subgraph.tensors[op.inputs[1]].shape[1:3]
    pairs = zip(sizes, given_shape[1:3], strict=False)
    return len(given_shape) == 4 and all(0 < size <= extent for size, extent in pairs)


def _other_orders(subgraph: Subgraph, step: Step) -> Iterator[tuple[str, Step]]:
    """Yield the other orders of the inputs of operators to which the order matters."""
    op = step.op
    shapes = {subgraph.tensors[i].shape for i in op.inputs if i >= 0}
    ordered = op.kind in ("CONCATENATION", "SUB", "DIV") and len(shapes) == 1
    if not ordered or not 1 < len(op.inputs) <= _MOST_PERMUTED:
        return
    for order in itertools.permutations(range(len(op.inputs))):
        inputs = tuple(op.inputs[i] for i in order)
        if inputs != op.inputs:
            yield (
                f"its inputs in the order {', '.join(map(str, order))}",
                replace(step, op=replace(op, inputs=inputs)),
            )
