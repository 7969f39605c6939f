"""Compare with the float arithmetic of a .tflite file: the traced file itself or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tfldbg.compare.batch import Batch, Computed, as_floats, in_real_units
from tfldbg.compare.runs import as_it_ran
from tfldbg.compare.stream import run_batch
from tfldbg.compare.tally import Plan
from tfldbg.errors import RunError
from tfldbg.graph.model import Graph, Subgraph, Tensor
from tfldbg.progress import Silent
from tfldbg.rewrite.twin import (
    CLAMP,
    FAKE_QUANT,
    FLOAT,
    Computation,
    LocalModel,
    local_model,
    twins,
)
from tfldbg.run.derived import FLOAT_KERNELS, DerivedRunner, copy_runner, derived_program, sample_of
from tfldbg.run.litert import Program, Runner, refusal

if TYPE_CHECKING:
    from tfldbg.graph.variables import Source
    from tfldbg.options.runtimes import Kernels
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.job import Job, Loaded

BuildModel = Callable[[Graph, Subgraph, Sequence[Computation]], LocalModel]


@dataclass(frozen=True, slots=True, eq=False)
class LocalPart:
    """Operators of a file in one model, each for itself, and the kernels that compute them."""

    model: LocalModel
    program: Program

    def start(self) -> DerivedRunner:
        """Load the model; the caller closes it.

        Raises:
            RunError: The runtime refuses it.
        """
        return DerivedRunner(self.program, self.model.feeds)


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """The operators that a runtime computes separately, and the reasons why it refuses others."""

    parts: tuple[LocalPart, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    """The reasons of refusal by operator of the reference file."""
    apart: tuple[int, ...] = ()
    """The operators that XNNPACK computes differently from LiteRT's own kernels, which are used."""

    def reasons(self, steps: Sequence[Computation]) -> dict[int, str]:
        """Return the reason of refusal for each tensor of a refused step."""
        return {
            index: self.refused[step.op.index]
            for step in steps
            if step.op.index in self.refused
            for index in step.results.values()
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Builder:
    """Operators that one set of kernels computes separately."""

    loaded: Loaded
    """The reference file."""
    build: BuildModel
    kernels: Kernels
    first: Batch
    """Some samples of the traced file."""

    def part(self, steps: Sequence[Computation]) -> LocalPart:
        model = self.build(self.loaded.graph, self.loaded.subgraph, steps)
        name = f"the single operators of '{self.loaded.path}'"
        return LocalPart(model, derived_program(name, model.content, model.taps, self.kernels))

    def tried(self, steps: Sequence[Computation]) -> tuple[LocalPart | None, dict[int, str]]:
        """Return the steps without those that the runtime refuses, and the reasons."""
        if not steps:
            return None, {}
        part = self.part(steps)
        given = sample_of(part.program, part.model.feeds, *self.first.given, 0)
        reason = refusal(part.program, given)
        if reason is None:
            return part, {}
        if len(steps) == 1:
            return None, {steps[0].op.index: f"it cannot be computed separately: {reason}"}
        middle = len(steps) // 2
        refused = {**self.tried(steps[:middle])[1], **self.tried(steps[middle:])[1]}
        sound = [s for s in steps if s.op.index not in refused]
        return self.part(sound) if sound else None, refused


def shadow(
    loaded: Loaded,
    steps: Sequence[Computation],
    first: Batch,
    build: BuildModel = local_model,
    kernels: Kernels = FLOAT_KERNELS,
) -> Shadow:
    """Build the local model without the operators that the runtime refuses.

    Args:
        loaded: The reference file.
        steps: The operators to compute.
        first: Some samples of the traced file.
        build: Makes the model: in float, or as the file is.
        kernels: The kernels that compute them.
    """
    made = _Builder(loaded, build, kernels, first)
    part, refused = made.tried([_as_it_ran(step, first) for step in steps])
    return Shadow(() if part is None else (part,), refused)


def _as_it_ran(step: Computation, first: Batch) -> Computation:
    """Return a step with the run-time shapes of its inputs, which may have dynamic dimensions."""
    return replace(step, feeds={i: as_it_ran(t, first) for i, t in step.feeds.items()})


class Free(Protocol):
    """A reference that runs free, from the inputs of the model."""

    def __call__(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            TfldbgError: It cannot compute the data.
        """

    def close(self) -> None:
        """Release its resources."""


class FileReference:
    """The separate operators of a file, and the free-running reference.

    It can be pickled, and so can all that it consists of.

    Args:
        built: The operators for themselves.
        aliases: Output of an operator that only changes how a value is stored or shaped, to its
            input.
        free: Runs the whole reference.
        stored: Tensors of the traced file, if the operators compute codes and not real values.
        variables: The sources of the values of READ_VARIABLE, by output tensor.

    Raises:
        RunError: The runtime refuses the operators.
    """

    batch: int | None = None
    in_batches = False

    def __init__(
        self,
        built: Shadow,
        aliases: Mapping[int, int],
        free: Free | None = None,
        stored: Sequence[Tensor] = (),
        variables: Mapping[int, Source] | None = None,
    ) -> None:
        self._free, self._aliases = free, aliases
        self._variables = _Variables(variables or {})
        self._stored = stored
        with ExitStack() as stack:
            if free is not None:
                stack.callback(free.close)
            self._local = started(built.parts)
            stack.pop_all()

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            RunError: The runtime crashes.
        """
        real = batch.real
        local = {out: real[of].reshape(batch.shape(out)) for out, of in self._aliases.items()}
        local.update(self._variables.yielded(batch))
        for results, runner in self._local:
            values = runner.run(*batch.given, batch.count)
            for index, value in zip(results, values, strict=True):
                stored = self._stored[index] if self._stored else None
                local[index] = as_floats(value) if stored is None else in_real_units(stored, value)
        known = {i: values for i, values in local.items() if i in real}
        free = Computed({}, {}) if self._free is None else self._free(batch)
        return replace(free, local=known)

    def close(self) -> None:
        """Release the models."""
        for _, runner in self._local:
            runner.close()
        if self._free is not None:
            self._free.close()


def started(parts: Sequence[LocalPart]) -> list[tuple[tuple[int, ...], DerivedRunner]]:
    """Return the results and the runner of each part.

    Raises:
        RunError: The runtime refuses one; the others are closed.
    """
    with ExitStack() as stack:
        runners = []
        for part in parts:
            runners.append((part.model.results, part.start()))
            stack.callback(runners[-1][1].close)
        stack.pop_all()
    return runners


class _Variables:
    """The expected values of resource variables: those that the file itself wrote to them."""

    def __init__(self, sources: Mapping[int, Source]) -> None:
        self._sources = sources
        self._last: dict[int, Floats] = {}

    def yielded(self, batch: Batch) -> dict[int, Floats]:
        """Return the expected values in a batch; in a stream's first step, the variables' own.

        Batches come in order, or begin with a stream.
        """
        found, fresh = {}, batch.fresh
        for index, source in self._sources.items():
            written = batch.real.get(source.tensor)
            if index not in batch.real or written is None:
                continue
            if source.same_step:
                found[index] = written
                continue
            rows = written.reshape(batch.shape(index))
            before = np.concatenate([self._last.get(index, rows[:1]), rows[:-1]])
            before[fresh] = batch.real[index][fresh]
            self._last[index] = rows[-1:].copy()  # the next run may overwrite them
            found[index] = before
        return found


SPLIT_SAMPLES = 16
"""The number of samples on which the accumulated error is split into saturation, rounding and
kernels."""


_STAGES = (CLAMP, FAKE_QUANT)


class TwinsRunner:
    """The free-running float copies of the traced file itself.

    Args:
        job: The file.
        refused: By operator why it has no float copy; its actual output is used.
        kernels: The kernels that compute the copies.

    Raises:
        RunError: The runtime refuses the copies.
    """

    def __init__(self, job: Job, refused: Mapping[int, str], kernels: Kernels) -> None:
        quantized = any(t.lsb is not None for t in job.subgraph.tensors)
        together = quantized and job.samples.count <= SPLIT_SAMPLES
        modes = (FLOAT, *_STAGES) if together else (FLOAT,)
        self._stages: _Copies | None = None
        with ExitStack() as stack:
            self._float = _Copies(job, refused, modes, job.readable, kernels)
            stack.callback(self._float.close)
            if quantized and not together:
                self._stages = _Copies(job, refused, _STAGES, job.readable, kernels)
            stack.pop_all()

    def __call__(self, batch: Batch) -> Computed:
        """Run the copies on the model's inputs."""
        made = self._float(batch)
        if self._stages is not None and batch.start < SPLIT_SAMPLES:
            made |= self._stages(batch.first(SPLIT_SAMPLES - batch.start))
        clamped, rounded = (made.get(mode, {}) for mode in _STAGES)
        return Computed(made[FLOAT], {}, clamped=clamped, rounded=rounded)

    def close(self) -> None:
        """Release the models."""
        for copies in (self._float, self._stages):
            if copies is not None:
                copies.close()


class EmulatedOutputs:
    """The final outputs of the traced file in float arithmetic that rounds to codes.

    Args:
        job: The file.
        refused: As for `TwinsRunner`.
        kernels: As for `TwinsRunner`.

    Raises:
        RunError: The runtime refuses the copy.
    """

    def __init__(self, job: Job, refused: Mapping[int, str], kernels: Kernels) -> None:
        outputs = frozenset(job.subgraph.outputs)
        self._copies = _Copies(job, refused, (FAKE_QUANT,), outputs, kernels)

    def __call__(self, batch: Batch) -> dict[int, Floats]:
        """Return the values for a batch by tensor."""
        return self._copies(batch)[FAKE_QUANT]

    def close(self) -> None:
        """Release the model."""
        self._copies.close()


class _Copies:
    """Float copies of a whole file in one model."""

    def __init__(
        self,
        job: Job,
        refused: Mapping[int, str],
        modes: Sequence[str],
        wanted: frozenset[int],
        kernels: Kernels,
    ) -> None:
        graph, subgraph = job.loaded.graph, job.subgraph
        made = twins(graph, subgraph, modes, refused, wanted, sources=job.sources)
        self._modes, self._results = modes, made.results
        self._runner = copy_runner(job.loaded.path, made, kernels)

    def __call__(self, batch: Batch) -> dict[str, dict[int, Floats]]:
        """Return the values for a batch by mode and tensor, in TFLite's shapes."""
        values = self._runner.run(batch.codes, batch.real, batch.count, batch.fresh)
        found: dict[str, dict[int, Floats]] = {mode: {} for mode in self._modes}
        for (mode, index), value in zip(self._results, map(as_floats, values), strict=True):
            if batch.fits(index, value):
                found[mode][index] = value.reshape(batch.shape(index))
        return found

    def close(self) -> None:
        self._runner.close()


class FreeFile:
    """Another file, running on the same samples with its own kernels.

    Args:
        job: The other file.
        values: The tensor of the other file with the same values, by tensor of the traced file.

    Raises:
        RunError: The runtime refuses the file.
    """

    def __init__(self, job: Job, values: Mapping[int, int]) -> None:
        self._plan = Plan(job.subgraph, job.exposed.taps, 0)
        self._samples, self._program, self._values = job.samples, job.instrumented, values
        self._runner: Runner | None = None
        self._opened()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_runner": None}

    def _opened(self) -> Runner:
        if self._runner is None:
            self._runner = Runner(self._program).__enter__()
        return self._runner

    def __call__(self, batch: Batch) -> Computed:
        """Run the file on a batch."""
        numbers = range(batch.start, batch.stop)
        made = run_batch(self._plan, self._samples, self._opened(), numbers, Silent())
        pairs = ((mine, other) for mine, other in self._values.items() if other in made.codes)
        found = {mine: made.real[other] for mine, other in pairs if other in made.real}
        return Computed({i: v for i, v in found.items() if batch.fits(i, v)}, {})

    def close(self) -> None:
        """Release the model."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def free_or_nothing(start: Callable[[], Free], first: Batch) -> tuple[Free | None, tuple[str, ...]]:
    """Return the free-running reference; or None and a note if it does not run as a whole.

    Args:
        start: The function that starts it.
        first: Some samples to try it on.
    """
    with ExitStack() as stack:
        try:
            free = start()
            stack.callback(free.close)
            free(first)
        except RunError as error:
            return None, (f"no accumulated error: {error.message}",)
        stack.pop_all()
    return free, ()
