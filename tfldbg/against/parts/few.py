"""Run both sides on a few samples: single operators, and parts of the reference."""

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
"""The results of a segment for each batch, by output tensor; None if TensorFlow cannot compute
it."""


class FewSamples:
    """Runs TFLite on a few samples, and the reference on TFLite's values.

    Args:
        job: The TFLite side.
        frozen: The reference.
        inputs: The number of the reference input for each TFLite input.
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
        """The tensors whose values are known."""
        return frozenset(self._batches[0].real)

    def held(self, index: int) -> Floats:
        """Return the values (n, ...) of a tensor, real units."""
        return np.concatenate([b.real[index] for b in self._batches])

    def local(
        self, segments: Mapping[int, Segment], reference: KerasReference | None = None
    ) -> Local:
        """Return the results of segments on TFLite's values, computing only those not yet known.

        Args:
            segments: The segments by output tensor.
            reference: The reference that computes just these segments, if there is one.
        """
        if reference is not None:
            self._compute_by(reference, segments)
        self._compute({k: s for k, s in segments.items() if not self._knows(k, s)})
        return {k: self._known[k][1] for k in segments}

    def own(self, joint: Joint) -> dict[int, list[Floats]]:
        """Return the results of the file's own float arithmetic for operators checked together.

        Args:
            joint: The operators by tensor.

        Returns:
            The values to compare with the reference, by tensor, for tensors for which they are
            known.
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
        """Return the statistics of computed values.

        Args:
            local: The results of the reference for each batch, by tensor.
            tested: The values to compare them with, by tensor, if those are not TFLite's.
        """
        tensors, samples = self._job.subgraph.tensors, self._job.samples
        tally = Tally(self._plan)
        for number, batch in enumerate(self._batches):
            values = {k: v[number] for k, v in local.items() if v is not None}
            other = {k: v[number] for k, v in tested.items() if k in values}
            made = Computed({}, values, other)
            computed = settled(tensors, batch, made, undecided=self._plan.undecided)
            tally.take(samples, batch, computed)
        return tally.measured()

    def fits(self, index: int, values: list[Floats]) -> bool:
        """Return whether a segment computes as many values as the tensor holds."""
        pairs = zip(values, self._batches, strict=True)
        return all(v.size == b.real[index].size for v, b in pairs)

    def between(self, matching: Matching, doubted: Iterable[int]) -> dict[str, NDArray[Any]]:
        """Return the values of nodes if all tensors except the doubted ones have TFLite's values.

        Args:
            matching: The matches of nodes and tensors.
            doubted: Tensors whose match does not count; nodes of their sizes are computed.

        Returns:
            The values (n, values of a sample) of each reference tensor, float32; empty if
            TensorFlow cannot compute them.
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
        """Return one row per sample, None if the values are not a multiple of the samples."""
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
            return  # one of them cannot be computed; `_compute` finds it
        self._known = {k: (s, [c[k] for c in computed]) for k, s in segments.items()}

    def _compute(self, segments: Mapping[int, Segment]) -> None:
        """Compute segments, or each half separately if TensorFlow cannot compute all of them."""
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
    """Return the numbers of the samples to use, in batches of the reference's size."""
    step = size or min(SAMPLES, count)
    most = max(1, SAMPLES // step) * step
    return [range(n, min(n + step, count)) for n in range(0, min(most, count), step)]
