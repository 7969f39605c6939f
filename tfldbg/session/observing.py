"""Check that exposing the tensors of a model does not change its outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.run.litert import Runner, as_bytes
from tfldbg.run.observed import untapped

if TYPE_CHECKING:
    from types import TracebackType

    from tfldbg.compare.tally import Measured
    from tfldbg.run.job import Job


class Observer:
    """The untouched model, to compare final outputs with.  Use as a context manager.

    Its process loads the model while other work continues.

    Args:
        job: The observed run.

    Raises:
        RunError: No process can be started.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._others = job, untapped(job)
        original = job.original
        others = job.in_untouched(self._others)
        self._original = Runner(replace(original, taps=(*original.taps, *others)))

    def __enter__(self) -> Observer:
        self._original.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._original.close()

    def identical(self, measured: Measured) -> bool:
        """Return whether both models compute the same outputs for the first samples, byte for byte.

        Raises:
            RunError: The runtime refuses the untouched model, or crashes.
        """
        expected, count = measured.outputs, len(measured.outputs)
        if self._others:
            with Runner(replace(self._job.instrumented, taps=self._others)) as others:
                rest = self._run(others, count)
            expected = tuple(
                (*outputs, *more) for outputs, more in zip(expected, rest, strict=True)
            )
        with self._original as original:
            return self._run(original, count) == list(expected)

    def _run(self, runner: Runner, count: int) -> list[tuple[bytes, ...]]:
        samples = self._job.samples
        return [
            tuple(
                as_bytes(array)
                for array in runner.run(samples.codes(i), fresh=samples.begins_stream(i))
            )
            for i in range(count)
        ]
