"""Compare with the float arithmetic of a .tflite file: the traced file itself or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.batch import Batch, Computed, as_floats, in_real_units
from tfldbg.compare.overlap import Behind
from tfldbg.errors import RunError
from tfldbg.graph.model import Graph, Subgraph, Tensor
from tfldbg.rewrite.twin import (
    CLAMP,
    FAKE_QUANT,
    FLOAT,
    MODES,
    Computation,
    LocalModel,
    Twins,
    local_model,
    twins,
)
from tfldbg.run.derived import FLOAT_KERNELS, DerivedRunner, copy_runner, derived_program, sample_of
from tfldbg.run.frames import Frames, numeric
from tfldbg.run.litert import Program, Runner, refusal

if TYPE_CHECKING:
    from tfldbg.graph.variables import Source
    from tfldbg.options.runtimes import Kernels
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.job import Job, Loaded

BuildModel = Callable[[Graph, Subgraph, Sequence[Computation]], LocalModel]
Free = Callable[[Batch], Computed]
"""A function that computes the free-running reference of a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """The operators that a runtime computes separately, and the reasons why it refuses others."""

    name: str
    """The name of the file in messages."""
    model: LocalModel | None
    refused: Mapping[int, str]
    """The reasons of refusal by operator of the reference file."""
    kernels: Kernels = FLOAT_KERNELS
    """The kernels that compute them."""

    def program(self, model: LocalModel) -> Program:
        """Return the program of a model of these operators."""
        name = f"the single operators of '{self.name}'"
        return derived_program(name, model.content, model.taps, self.kernels)

    def start(self, stack: ExitStack) -> DerivedRunner | None:
        """Start a process that computes the operators, which ``stack`` ends; None without any.

        Raises:
            RunError: The runtime refuses the operators.
        """
        if self.model is None:
            return None
        runner = DerivedRunner(self.program(self.model), self.model.feeds)
        stack.callback(runner.close)
        return runner

    def reasons(self, steps: Sequence[Computation]) -> dict[int, str]:
        """Return the reason of refusal for each tensor of a refused step."""
        return {
            index: self.refused[step.op.index]
            for step in steps
            if step.op.index in self.refused
            for index in step.results.values()
        }


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
    none = Shadow(loaded.path, None, {}, kernels)
    if not steps:
        return none
    steps = [_as_it_ran(step, first) for step in steps]
    model = build(loaded.graph, loaded.subgraph, steps)
    program = none.program(model)
    reason = refusal(program, sample_of(program, model.feeds, *first.given, 0))
    if reason is None:
        return replace(none, model=model)
    if len(steps) == 1:
        why = f"it cannot be computed separately: {reason}"
        return replace(none, refused={steps[0].op.index: why})
    middle = len(steps) // 2
    halves = [
        shadow(loaded, part, first, build, kernels) for part in (steps[:middle], steps[middle:])
    ]
    refused = {**halves[0].refused, **halves[1].refused}
    sound = [s for s in steps if s.op.index not in refused]
    model_of_sound = build(loaded.graph, loaded.subgraph, sound) if sound else None
    return replace(none, model=model_of_sound, refused=refused)


def _as_it_ran(step: Computation, first: Batch) -> Computation:
    """Return a step with the run-time shapes of its inputs, which may have dynamic dimensions."""
    feeds = {
        i: replace(t, shape=first.codes[t.index].shape[1:]) if t.index in first.codes else t
        for i, t in step.feeds.items()
    }
    return replace(step, feeds=feeds)


class FileReference:
    """The separate operators of a file, and the free-running reference.

    Args:
        built: The operators for themselves.
        aliases: Output of an operator that only changes how a value is stored or shaped, to its
            input.
        free: Runs the whole reference.
        stack: The stack to close at the end.
        stored: Tensors of the traced file, if the operators compute codes and not real values.
        variables: The sources of the values of READ_VARIABLE, by output tensor.

    Raises:
        RunError: The runtime refuses the operators.
    """

    batch: int | None = None

    def __init__(
        self,
        built: Shadow,
        aliases: Mapping[int, int],
        free: Free,
        stack: ExitStack,
        stored: Sequence[Tensor] = (),
        variables: Mapping[int, Source] | None = None,
    ) -> None:
        self._free, self._stack, self._aliases = free, stack, aliases
        self._behind = Behind()
        stack.callback(self._behind.close, wait=False)  # the runner it waits for is closed after it
        self._variables = _Variables(variables or {})
        self._stored = stored
        self._results = built.model.results if built.model else ()
        self._local = built.start(stack)

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            RunError: The runtime crashes.
        """
        coming = self._behind.do(self._free, batch)  # in another child process
        real = batch.real
        local = {out: real[of].reshape(batch.shape(out)) for out, of in self._aliases.items()}
        local.update(self._variables.yielded(batch))
        if self._local is not None:
            values = self._local.run(*batch.given, batch.stop - batch.start)
            for index, value in zip(self._results, values, strict=True):
                stored = self._stored[index] if self._stored else None
                local[index] = as_floats(value) if stored is None else in_real_units(stored, value)
        known = {i: values for i, values in local.items() if i in batch.real}
        return replace(coming.result(), local=known)

    def close(self) -> None:
        """End the child processes."""
        self._stack.close()


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
            self._last[index] = rows[-1:]
            found[index] = before
        return found


class TwinsRunner:
    """The free-running float copies of the traced file itself.

    Args:
        job: The file.
        refused: By operator why it has no float copy; its actual output is used.
        stack: The stack to close at the end.
        emulated: The tensors whose fake-quant copies are wanted and nothing else; None for all
            copies of the readable tensors.
        apart: True to run each copy in its own process, all at the same time.

    Raises:
        RunError: The runtime refuses the copies.
    """

    def __init__(
        self,
        job: Job,
        refused: Mapping[int, str],
        stack: ExitStack,
        emulated: frozenset[int] | None = None,
        apart: bool = False,
    ) -> None:
        graph, subgraph, sources = job.loaded.graph, job.subgraph, job.sources
        quantized = any(t.lsb is not None for t in subgraph.tensors)
        modes = MODES if quantized else (FLOAT,)
        modes = modes if emulated is None else (FAKE_QUANT,)
        wanted = job.readable if emulated is None else emulated
        self._copies = [
            _Copies(
                job.loaded.path,
                twins(graph, subgraph, some, refused, wanted, sources=sources),
                stack,
            )
            for some in ([(mode,) for mode in modes] if apart else [modes])
        ]
        self._behind = [Behind() for _ in self._copies[1:]]
        for behind in self._behind:
            stack.callback(behind.close, wait=False)  # the runner it waits for is closed after it

    def __call__(self, batch: Batch) -> Computed:
        """Run the copies on the model's inputs."""
        first, *others = self._copies
        pairs = zip(self._behind, others, strict=True)
        coming = [behind.do(copies, batch) for behind, copies in pairs]
        found: dict[str, dict[int, Floats]] = {FLOAT: {}, CLAMP: {}, FAKE_QUANT: {}}
        for some in (first(batch), *(future.result() for future in coming)):
            for (mode, index), value in some.items():
                found[mode][index] = value
        return Computed(found[FLOAT], {}, {}, found[CLAMP], found[FAKE_QUANT])


class _Copies:
    """Some of the float copies, in one process."""

    def __init__(self, name: str, made: Twins, stack: ExitStack) -> None:
        self._results = made.results
        self._runner = copy_runner(name, made, stack)

    def __call__(self, batch: Batch) -> dict[tuple[str, int], Floats]:
        """Return the values for a batch by mode and tensor, in TFLite's shapes."""
        count = batch.stop - batch.start
        values = self._runner.run(batch.codes, batch.real, count, batch.fresh)
        found = {}
        for (mode, index), value in zip(self._results, map(as_floats, values), strict=True):
            if batch.fits(index, value):
                found[mode, index] = value.reshape(batch.shape(index))
        return found


class FreeFile:
    """Another file, running on the same samples with its own kernels.

    Args:
        job: The other file.
        values: The tensor of the other file with the same values, by tensor of the traced file.
        stack: The stack to close at the end.

    Raises:
        RunError: The runtime refuses the file.
    """

    def __init__(self, job: Job, values: Mapping[int, int], stack: ExitStack) -> None:
        self._job, self._values = job, values
        self._runner = stack.enter_context(Runner(job.instrumented))

    def __call__(self, batch: Batch) -> Computed:
        """Run the file on a batch."""
        job, tensors = self._job, self._job.subgraph.tensors
        indices = (*job.subgraph.inputs, *job.exposed.taps)
        frames = Frames[int](batch.stop - batch.start)
        for number in range(batch.start, batch.stop):
            given = job.samples.codes(number)
            fresh = job.samples.begins_stream(number)
            made = self._runner.run(given, fresh=fresh, lend=True)
            frames.add(numeric(dict(zip(indices, (*given, *made), strict=True))))
        real = {i: in_real_units(tensors[i], v) for i, v in frames.stacked().items()}
        free = {
            mine: real[other]
            for mine, other in self._values.items()
            if batch.fits(mine, real[other])
        }
        return Computed(free, {})


def nothing_free(batch: Batch) -> Computed:
    """Return nothing, for a reference that cannot run as a whole."""
    del batch
    return Computed({}, {})


def free_or_nothing(start: Callable[[], Free], first: Batch) -> tuple[Free, tuple[str, ...]]:
    """Return the free-running reference, or a note if it does not run as a whole.

    Args:
        start: The function that starts it.
        first: Some samples to try it on.
    """
    try:
        free = start()
        free(first)
    except RunError as error:
        return nothing_free, (f"no accumulated error: {error.message}",)
    return free, ()
