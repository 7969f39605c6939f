"""The same file under other kernels as the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.compare.copies import FileReference, FreeFile, shadow
from tfldbg.compare.relation import Relation
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import UsageError
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import own_steps
from tfldbg.options.runtimes import RUNTIMES, Kernels
from tfldbg.rewrite.cut import cut_model

if TYPE_CHECKING:
    from tfldbg.run.job import Job

_TRAITS = Traits(kernels=True)


def _open(bench: Bench) -> Opened:
    """Compute each operator with the other kernels, on the inputs that the traced one had.

    Raises:
        UsageError: The runtime does not exist, or is the traced one.
        MissingExtraError: Its package is not installed.
    """
    job, kernels = bench.job, Kernels(bench.against.against_runtime or "")
    _check(kernels, job.run_on.kernels)
    about = About("runtime", f"the same file under {kernels}", _TRAITS, runtime=kernels.runtime)
    subgraph = job.subgraph
    plan = own_steps(subgraph, job.readable, states=job.states, stored=True)
    reasons = {**job.skipped, **plan.reasons}
    matching = match_itself(subgraph)
    bench.start(about, lambda: Relation(matching, reasons))
    built = shadow(job.loaded, plan.steps, bench.first, cut_model, kernels)
    reference = FileReference(
        built,
        plan.aliases,
        FreeFile(_under(job, kernels), {i: i for i in job.readable}),
        subgraph.tensors,
        job.sources,
    )
    relation = Relation(matching, {**reasons, **built.reasons(plan.steps)})
    return Opened(about, relation, reference)


def _check(kernels: Kernels, traced: Kernels) -> None:
    if kernels.runtime not in RUNTIMES or kernels == traced:
        others = [name for name in RUNTIMES if Kernels(name) != traced]
        wrong = "is the traced runtime itself" if kernels == traced else "is not a runtime"
        raise UsageError(
            f"'{kernels}' {wrong}: the reference must be another runtime",
            hint=f"compare with one of {', '.join(others)}",
        )
    kernels.check()


def _under(job: Job, kernels: Kernels) -> Job:
    """Return the job under other kernels, without a delegate."""
    run_on = replace(job.run_on, runtime=kernels.runtime, delegate=None, delegate_options=None)
    return replace(job, run_on=run_on)


KIND = Kind(_TRAITS, _open)
