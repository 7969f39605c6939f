"""What both sides make of a few samples: single operators, and the reference in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import (
    Batch,
    Computed,
    as_floats,
    as_halves_end,
    clamped,
    holds_halves,
    settled,
)
from tfldbg.compare.overlap import Crew
from tfldbg.compare.runs import Joint, OwnRuns
from tfldbg.compare.stream import run_batch
from tfldbg.compare.tally import Measured, Plan, Tally
from tfldbg.compare.undecided import comparisons
from tfldbg.errors import KerasError, RunError
from tfldbg.match.by_values import candidates
from tfldbg.progress import Silent
from tfldbg.reference.evaluate import Evaluator, in_reference_order

if TYPE_CHECKING:
    from tfldbg.compare.keras_reference import KerasReference
    from tfldbg.match.model import Matching
    from tfldbg.reference.evaluate import Floats, Frozen, Segment
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

SAMPLES = 4
"""The number of first samples that matching looks at."""
Local = Mapping[int, "list[Floats] | None"]
"""By output tensor what a segment makes of each batch; None where TensorFlow cannot compute it."""


class FewSamples:
    """Runs TFLite on a few samples, and the reference on what TFLite had.

    Args:
        job: The TFLite side.
        frozen: The reference.
        inputs: For each TFLite input the number of the reference input.
        runner: The instrumented model.
    """

    def __init__(self, job: Job, frozen: Frozen, inputs: tuple[int, ...], runner: Runner) -> None:
        self._job = job
        self._frozen = frozen
        self._inputs = inputs
        undecided = comparisons(job.loaded.graph, job.subgraph)
        self._plan = Plan(job.subgraph, job.exposed.taps, observed=0, undecided=undecided)
        self._batches = [
            run_batch(self._plan, job.samples, runner, numbers, Silent())
            for numbers in _numbers(job.samples.count, frozen.batch)
        ]
        self._halves = holds_halves(job.subgraph.tensors)
        self._known: dict[int, tuple[Segment, list[Floats] | None]] = {}
        self._own: dict[tuple[int, tuple[int, ...]], list[Floats] | None] = {}

    @property
    def first(self) -> Batch:
        """The first samples."""
        return self._batches[0]

    @property
    def readable(self) -> frozenset[int]:
        """Tensors whose values are known."""
        return frozenset(self._batches[0].real)

    def held(self, index: int) -> Floats:
        """Return (n, ...) what a tensor holds, real units."""
        return np.concatenate([b.real[index] for b in self._batches])

    def local(
        self, segments: Mapping[int, Segment], reference: KerasReference | None = None
    ) -> Local:
        """Compute segments from the values that TFLite had; what was computed before is known.

        Args:
            segments: By output tensor.
            reference: What computes just these, where there is one.
        """
        if reference is not None:
            self._compute_by(reference, segments)
        self._compute({k: s for k, s in segments.items() if not self._knows(k, s)})
        return {k: self._known[k][1] for k in segments}

    def own(self, joint: Joint) -> dict[int, list[Floats]]:
        """Return what the file's own float arithmetic makes of what is checked together.

        Args:
            joint: By tensor the operators.

        Returns:
            By those of the tensors of which it is known, what is compared with the reference.
        """
        fresh = {i: run for i, run in joint.items() if (i, run) not in self._own}
        if fresh:
            runs = OwnRuns(self._job, fresh, self.first, members=False)
            try:
                parts = [runs.compute(b).tested for b in self._batches]
            except RunError:
                parts = [{}]
            finally:
                runs.close()
            for index, run in fresh.items():
                known = all(index in part for part in parts)
                self._own[index, run] = [part[index] for part in parts] if known else None
        found = {i: self._own[i, run] for i, run in joint.items()}
        return {i: values for i, values in found.items() if values is not None}

    def measured(self, local: Local, tested: Mapping[int, list[Floats]]) -> Measured:
        """Return the statistics of what was computed.

        Args:
            local: By tensor what the reference made of each batch.
            tested: By tensor what to compare it with where that is not what TFLite had.
        """
        tensors, samples = self._job.subgraph.tensors, self._job.samples
        tally = Tally(self._plan)
        with Crew(1) as crew:
            for number, batch in enumerate(self._batches):
                values = {k: v[number] for k, v in local.items() if v is not None}
                other = {k: v[number] for k, v in tested.items() if k in values}
                made = Computed({}, values, other)
                computed = settled(tensors, batch, made, undecided=self._plan.undecided)
                tally.take(samples, batch, computed, crew)
        return tally.measured()

    def fits(self, index: int, values: list[Floats]) -> bool:
        """Whether a segment yields as many values as the tensor holds."""
        pairs = zip(values, self._batches, strict=True)
        return all(v.size == b.real[index].size for v, b in pairs)

    def between(self, matching: Matching, doubted: Iterable[int]) -> dict[str, NDArray[Any]]:
        """Return what nodes hold if every tensor but the doubted ones has TFLite's value.

        Args:
            matching: Which node computes which tensor.
            doubted: Tensors whose match does not count; nodes of their sizes are computed.

        Returns:
            By reference tensor its values, (n, values of a sample) float32; empty where TensorFlow
            cannot compute them.
        """
        unforced = frozenset(doubted)
        forced: dict[str, int] = {}
        for match in matching.matches.values():
            if match.tensor in self.readable - unforced:
                for name in match.names:
                    forced.setdefault(name, match.tensor)
        sizes = (self._job.subgraph.tensors[i].elements for i in unforced)
        names = [n for n in candidates(self._frozen.graph, sizes) if n not in forced]
        try:
            found = self._run(names, forced) if names else []
        except KerasError:
            return {}
        columns = zip(names, zip(*found, strict=True), strict=True)
        return {n: rows for n, parts in columns if (rows := self._in_rows(parts)) is not None}

    def beside(self, index: int, values: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
        """Return the nodes that hold as many values as a tensor, clamped to its range."""
        tensor, test = self._job.subgraph.tensors[index], self.held(index)
        fitting = ((n, v) for n, v in values.items() if v.size == test.size)
        found = {n: clamped(tensor, v)[0].reshape(test.shape) for n, v in fitting}
        return {n: as_halves_end(v) for n, v in found.items()} if self._halves else found

    def _run(self, names: list[str], forced: Mapping[str, int]) -> list[list[Floats]]:
        evaluator = Evaluator(self._frozen, names, [], forced=forced, once=True)
        try:
            return [self._batch(evaluator, b)[0] for b in self._batches]
        finally:
            evaluator.close()

    def _batch(self, evaluator: Evaluator, batch: Batch) -> tuple[list[Floats], list[Floats]]:
        given = self._job.samples.real(batch.start, batch.stop)
        taps = {key: batch.real[key] for key in evaluator.tap_keys}
        return evaluator.run(in_reference_order(self._inputs, given), taps)

    def _in_rows(self, parts: Iterable[NDArray[Any]]) -> NDArray[Any] | None:
        """Return a row a sample, None where the values are no multiple of the samples."""
        pairs = [(part, b.stop - b.start) for part, b in zip(parts, self._batches, strict=True)]
        if any(not part.size or part.size % count for part, count in pairs):
            return None
        return np.concatenate([as_floats(part).reshape(count, -1) for part, count in pairs])

    def _knows(self, key: int, segment: Segment) -> bool:
        return key in self._known and self._known[key][0] is segment

    def _compute_by(self, reference: KerasReference, segments: Mapping[int, Segment]) -> None:
        try:
            computed = [reference.compute(batch).local for batch in self._batches]
        except KerasError:
            return  # one of them cannot be computed; which one is found out
        self._known = {k: (s, [c[k] for c in computed]) for k, s in segments.items()}

    def _compute(self, segments: Mapping[int, Segment]) -> None:
        """Compute segments; where TensorFlow cannot compute all of them, each half by itself."""
        if not segments:
            return
        try:
            self._known |= self._computed(segments)
        except KerasError:
            keys = list(segments)
            if len(keys) == 1:
                self._known[keys[0]] = (segments[keys[0]], None)
                return
            half = len(keys) // 2
            for some in (keys[:half], keys[half:]):
                self._compute({k: segments[k] for k in some})

    def _computed(
        self, segments: Mapping[int, Segment]
    ) -> dict[int, tuple[Segment, list[Floats] | None]]:
        evaluator = Evaluator(self._frozen, [], list(segments.values()), once=True)
        try:
            parts = [self._batch(evaluator, b)[1] for b in self._batches]
        finally:
            evaluator.close()
        columns = zip(*parts, strict=True)
        return {k: (s, list(v)) for (k, s), v in zip(segments.items(), columns, strict=True)}


def _numbers(count: int, size: int | None) -> list[range]:
    """Return the samples to look at, in batches that the reference takes."""
    step = size or min(SAMPLES, count)
    most = max(1, SAMPLES // step) * step
    return [range(n, min(n + step, count)) for n in range(0, min(most, count), step)]
