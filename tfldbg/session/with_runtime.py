"""Compare two kernel sets on the same file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.against.file import FileReference, FreeFile, shadow
from tfldbg.compare.relation import Relation
from tfldbg.errors import UsageError
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import own_steps
from tfldbg.options.runtimes import RUNTIMES, Kernels
from tfldbg.rewrite.cut import cut_model
from tfldbg.session.comparisons import first_sample, readable
from tfldbg.session.float_copies import variables_of

if TYPE_CHECKING:
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


class WithRuntime:
    """The same file under other kernels.

    Args:
        runtime: One of `tfldbg.options.runtimes.RUNTIMES`.
    """

    processes = 4

    def __init__(self, runtime: str) -> None:
        self._kernels = Kernels(runtime)

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Check that there is something to compare.

        Raises:
            UsageError: There is no such runtime, or it is the one that is traced.
            MissingExtraError: Its package is not installed.
        """
        traced = job.run_on.kernels
        if self._kernels.runtime not in RUNTIMES or self._kernels == traced:
            others = [name for name in RUNTIMES if Kernels(name) != traced]
            raise UsageError(
                f"'{self._kernels}' is no other runtime than '{traced}'",
                hint=f"compare it with one of {', '.join(others)}",
            )
        self._kernels.check()

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Let the other kernels compute every operator from the values that these had."""
        subgraph, graph = job.subgraph, job.loaded.graph
        plan = own_steps(subgraph, readable(job), states=job.states, stored=True)
        reasons = {**job.skipped, **plan.reasons}
        matching = match_itself(subgraph)
        if runner is None:
            return Relation(matching, reasons), None
        name, first = job.loaded.path, first_sample(job, runner)
        built = shadow(name, graph, subgraph, plan.steps, first, cut_model, self._kernels)
        reasons.update(built.reasons(plan.steps))
        stack = ExitStack()
        elsewhere = replace(
            job.run_on, runtime=self._kernels.runtime, delegate=None, delegate_options=None
        )
        other = replace(job, run_on=elsewhere)
        free = FreeFile(other, {i: i for i in readable(job)}, stack)
        made = FileReference(
            name,
            built.model,
            plan.aliases,
            free,
            stack,
            subgraph.tensors,
            self._kernels,
            variables_of(job),
        )
        return Relation(matching, reasons), made

    def describe(self, run: Run) -> Run:
        """Add the other runtime."""
        return replace(
            run,
            reference_kind="runtime",
            reference_path=f"the same file under {self._kernels}",
            reference_runtime=self._kernels.runtime,
        )
