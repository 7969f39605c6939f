"""Try what makes an operator agree: other kernels, other options, another order of its inputs.

An operator that differs is run alone, on the inputs that it really had: unchanged under the other
sets of kernels, and as a float copy with one change.  The variants that then agree with the
reference show the cause.
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
"""The changed operator and the change, None for no change."""
_Tried = tuple[_Key, list[Computation]]
_Ran = tuple[_Key, NDArray[Any]]
_UNCHANGED = "its float arithmetic"
"""The name of the unchanged float copy."""
_MOST_COPIES = 2048
"""The largest number of operators in a model that tries several operators with one change each."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of running one operator in another way."""

    op: int
    tensor: int
    """The tensor that is compared with the reference: its output, or that of the last of the
    operators that are checked together with it."""
    kind: Literal["runtime", "option", "float"]
    value: str
    """The kernels or the change; ``float`` is the file's own arithmetic without a change."""
    max_abs: float
    """The largest difference from the reference, real units."""
    max_lsb: float | None
    agrees: bool
    """True if arithmetic explains this difference, but not the difference in the trace."""
    as_traced: bool
    """True if the values agree with those of the trace, to the same limit."""

    @property
    def changed(self) -> bool:
        """True if something of the operator was changed."""
        return self.kind == "option"


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """An operator that differs from its reference."""

    tensor: Tensor
    """Its output."""
    step: Computation
    """The computation that runs it alone."""
    run: tuple[Operator, ...]
    """The operators that are checked together with it, itself last; only itself if there are
    none."""
    wanted: Floats
    """The reference's results (n, ...) on the operator's inputs, real units."""
    traced: Floats
    """The traced results (n, ...) on the operator's inputs, real units."""
    limit: float
    """The difference that arithmetic explains, real units."""


def suspects(
    subgraph: Subgraph,
    limits: Mapping[int, float],
    joint: Mapping[int, tuple[int, ...]],
    batch: Batch,
    computed: Computed,
) -> list[Suspect]:
    """Return the suspects that can be run alone.

    Args:
        subgraph: The traced subgraph.
        limits: The difference that arithmetic explains, by output of a suspect, real units.
        joint: The operators that are checked together, by tensor, if there are several.
        batch: The inputs of the operators: some samples, computed by TFLite or recorded.
        computed: The reference's results on the operators' inputs, for the same samples.
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
        kernels: The kernels that computed the trace.
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
    """Run the float copies of operators checked together, with one change of one operator.

    If the unchanged copy agrees with the reference, no option is wrong, but the kernels or the
    codes are.  Then only that trial is returned, since a change without effect also agrees.

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
    """Yield the results of variants, leaving out those that the runtime refuses.

    They share a model, since a child process costs more than a variant.  A refused variant makes
    the runtime refuse the whole model, which is then divided until the variant is alone.
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
    """Return the steps of a suspect's run, or only its own if the others cannot be run."""
    if len(suspect.run) == 1:
        return [suspect.step]
    return steps_of(subgraph, suspect.run, batch) or [suspect.step]


def run_alone(model: LocalModel, batch: Batch, kernels: Kernels) -> list[NDArray[Any]]:
    """Return each result (n, ...), nothing if the runtime refuses the operator.

    Args:
        model: The model of the operator alone.
        batch: The values of its inputs.
        kernels: The kernels that compute it.
    """
    program = derived_program("a single operator", model.content, model.taps, kernels)
    try:
        runner = DerivedRunner(program, model.feeds)
    except RunError:
        return []  # a refusal by these kernels says nothing about the values
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
    """Return the largest difference of both sides clamped to the tensor's range; inf for NaN."""
    if one.size != other.size:
        return float("inf")
    sides = [one.reshape(-1), other.reshape(-1)]
    if tensor.affine is not None:
        ends = tensor.affine.real_range(tensor.type)
        sides = [np.clip(side, *ends) for side in sides]
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(sides[0] - sides[1]).max(initial=0.0))
    return largest if largest == largest else float("inf")
