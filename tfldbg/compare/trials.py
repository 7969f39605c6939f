"""Try what would make an operator agree: other kernels, other options, other inputs' order.

An operator that differs is run by itself, on the inputs that it really had: as it stands in the
file under the other sets of kernels, and as a float copy with one thing changed.  What then agrees
with the reference tells the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed, in_real_units
from tfldbg.compare.runs import as_it_ran, steps_of
from tfldbg.compare.variants import Variant, variants
from tfldbg.errors import RunError
from tfldbg.match.steps import given
from tfldbg.options.runtimes import LITERT, Kernels
from tfldbg.rewrite.cut import cut_model
from tfldbg.rewrite.twin import Computation, LocalModel, chain_model, untwinned
from tfldbg.run.derived import FLOAT_KERNELS, DerivedRunner, derived_program

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

Floats = NDArray[np.float32]
_Key = tuple[int, str | None]
"""The operator that is changed, and what is changed of it; None for nothing."""
_Tried = tuple[_Key, list[Computation]]
_Ran = tuple[_Key, NDArray[Any]]
_UNCHANGED = "its float arithmetic"
"""What is run where nothing of the float copy is changed."""
_MOST_COPIES = 2048
"""Operators of the model that tries a run of operators with one thing changed after the other."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator, run in another way."""

    op: int
    tensor: int
    """Where it is compared with the reference: its output, or that of the last of the operators
    that are checked together with it."""
    kind: Literal["runtime", "option", "float"]
    value: str
    """The kernels, or what was changed; of ``float``, the file's own arithmetic, nothing."""
    max_abs: float
    """Largest difference from the reference, real units."""
    max_lsb: float | None
    agrees: bool
    """Whether arithmetic explains that, while it does not explain the difference in the trace."""
    as_traced: bool
    """Whether the values are those of the trace, to the same limit."""

    @property
    def changed(self) -> bool:
        """Whether something of the operator was changed."""
        return self.kind == "option"


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """An operator that differs from its reference."""

    tensor: Tensor
    """What it writes."""
    step: Computation
    """How it is run by itself."""
    run: tuple[Operator, ...]
    """The operators that are checked together with it, itself the last; it alone where it is."""
    wanted: Floats
    """(n, ...) what the reference makes of the operator's inputs, real units."""
    traced: Floats
    """(n, ...) what was traced makes of them, real units."""
    limit: float
    """The difference that arithmetic explains, real units."""


def suspects(
    subgraph: Subgraph,
    limits: Mapping[int, float],
    joint: Mapping[int, tuple[int, ...]],
    batch: Batch,
    computed: Computed,
) -> list[Suspect]:
    """Return the operators that can be run by themselves.

    Args:
        subgraph: The traced file's.
        limits: By tensor that they write the difference that arithmetic explains, real units.
        joint: By tensor the operators that are checked together where several are.
        batch: What the operators read: some samples, as TFLite computed them, or recorded.
        computed: What the reference made of the operators' inputs on the same samples.
    """
    found = []
    wanted, traced = computed.local, {**batch.real, **computed.tested}
    for op in subgraph.operators:
        for index in (i for i in op.outputs if i in limits and i in wanted):
            feeds = {t.index: as_it_ran(t, batch) for t in given(subgraph, op)}
            feeds |= {i: subgraph.tensors[i] for i in op.inputs if i in batch.states}
            known = all(i in batch.codes or i in batch.states for i in feeds)
            if untwinned(subgraph, op) is None and known and index in batch.codes:
                step = Computation(op, feeds, {index: index})
                run = tuple(subgraph.operators[i] for i in joint.get(index, (op.index,)))
                tensor = subgraph.tensors[index]
                sides = wanted[index], traced[index]
                found.append(Suspect(tensor, step, run, *sides, limits[index]))
    return found


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
    """Run the float copy of what is checked together, with one thing of one operator changed.

    Where the copy agrees with the reference as it is, nothing that could be changed is wrong: the
    kernels are, or the codes.  Then that is all that is returned, for a change that changes nothing
    agrees as well.

    Args:
        graph: The traced file.
        subgraph: Its subgraph.
        suspect: The operator, and those that are checked together with it.
        batch: The samples that the suspect was made from.
    """
    trials: tuple[Trial, ...] = ()
    for likely in (True, False):
        if not any(t.agrees for t in trials):
            trials += _try(graph, subgraph, suspect, batch, likely=likely)
    right = tuple(t for t in trials if not t.changed and t.agrees)
    return right or tuple(t for t in trials if t.changed)


def _try(
    graph: Graph, subgraph: Subgraph, suspect: Suspect, batch: Batch, *, likely: bool
) -> tuple[Trial, ...]:
    tried: dict[_Key, list[Computation]] = {}
    steps = _steps(subgraph, suspect, batch)
    if likely:
        tried[suspect.step.op.index, None] = steps
    for number, step in enumerate(steps):
        for variant in variants(graph, subgraph, step.op, likely=likely):
            chain = [*steps[:number], _changed(step, variant), *steps[number + 1 :]]
            tried[step.op.index, variant.said] = chain
    if sum(map(len, tried.values())) > _MOST_COPIES:
        return ()
    return tuple(
        replace(_changed_trial(change, suspect, values.astype(np.float32)), op=op)
        for (op, change), values in _run(graph, subgraph, suspect, list(tried.items()), batch)
    )


def _changed_trial(change: str | None, suspect: Suspect, values: Floats) -> Trial:
    if change is None:
        return _judged("float", _UNCHANGED, suspect, values)
    return _judged("option", change, suspect, values)


def _run(
    graph: Graph, subgraph: Subgraph, suspect: Suspect, tried: Sequence[_Tried], batch: Batch
) -> Iterator[_Ran]:
    """Yield what variants compute, those left out that the runtime refuses.

    They share a model, for a child process costs more than a variant; one that is refused takes
    the others of its model with it, so these are divided until it is alone.
    """
    if not tried:
        return
    chains = [
        [*chain[:-1], replace(chain[-1], results={suspect.tensor.index: number})]
        for number, (_, chain) in enumerate(tried)
    ]
    changed = run_alone(chain_model(graph, subgraph, chains), batch, FLOAT_KERNELS)
    if changed:
        yield from zip((key for key, _ in tried), changed, strict=True)
    elif len(tried) > 1:
        half = len(tried) // 2
        yield from _run(graph, subgraph, suspect, tried[:half], batch)
        yield from _run(graph, subgraph, suspect, tried[half:], batch)


def _changed(step: Computation, variant: Variant) -> Computation:
    return replace(
        step,
        op=variant.op,
        options=variant.options,
        kind=variant.kind,
        constants=variant.constants,
    )


def _steps(subgraph: Subgraph, suspect: Suspect, batch: Batch) -> list[Computation]:
    """Return the run of a suspect; the suspect alone where the others cannot be run."""
    if len(suspect.run) == 1:
        return [suspect.step]
    return steps_of(subgraph, suspect.run, batch) or [suspect.step]


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
    kind: Literal["runtime", "option", "float"], said: str, suspect: Suspect, values: Floats
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
    if tensor.affine is not None:
        ends = tensor.affine.real_range(tensor.type)
        sides = [np.clip(side, *ends) for side in sides]
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(sides[0] - sides[1]).max(initial=0.0))
    return largest if largest == largest else float("inf")
