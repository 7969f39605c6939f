"""Callbacks that measure during training how far a model is from its conversion.

`ConversionGap` is for tf_keras, `Keras3ConversionGap` for Keras 3.  Each class is created on first
access, because its base class comes with TensorFlow.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any

from tfldbg.api import convert, trace
from tfldbg.diagnose.words import number
from tfldbg.errors import RunError, TfldbgError, UsageError, unexpected
from tfldbg.files import scratch_folder
from tfldbg.options.convert import Target
from tfldbg.options.run_on import RunOn

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.outputs import OutputStats
    from tfldbg.options.judge import Thresholds
    from tfldbg.options.sources import DataSource
    from tfldbg.session import Trace

_FRAMEWORKS = {"ConversionGap": "tf_keras", "Keras3ConversionGap": "keras"}
FIGURES = ("gap_diverged", "gap_local_max_lsb", "gap_output_rmse", "gap_output_rmse_lsb")
"""The figures that a callback adds to the logs of every epoch; NaN where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The result of the measurement after one epoch."""

    epoch: int
    """The number of the epoch, counted from 0 as Keras does."""
    result: Trace | None
    """The trace of the converted model against the live one."""
    error: TfldbgError | None
    """The reason why there is no trace, or None."""

    @property
    def figures(self) -> dict[str, float]:
        """The figures by the names that they have in the logs; NaN where they are undefined."""
        return _figures(self.result) if self.result is not None else _nothing()


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    """The data, the target and the settings of every measurement."""

    data: DataSource
    every: int
    target: Target
    samples: int | None
    runtime: str
    thresholds: Thresholds | None

    def __post_init__(self) -> None:
        RunOn(samples=self.samples, runtime=self.runtime).kernels.check()
        if not isinstance(self.every, Integral) or self.every < 1:
            raise UsageError(
                f"invalid value {self.every!r} for every: must be a whole number of at least 1",
                hint="measure every=1 or more",
            )

    def measure(self, model: Any, epoch: int) -> Gap:
        """Convert the current model and trace the conversion against it.

        Any failure is returned with the result, so that a measurement cannot stop the training.
        """
        try:
            return Gap(epoch, self._traced(model), None)
        except TfldbgError as error:
            return Gap(epoch, None, error)
        except OSError as error:
            hint = "free some space in the temporary folder, or set TMPDIR to another one"
            return Gap(epoch, None, RunError(f"{type(error).__name__}: {error}", hint=hint))
        except Exception as error:
            return Gap(epoch, None, unexpected(error))

    def _traced(self, model: Any) -> Trace:
        with scratch_folder() as folder:
            path = folder / "model.tflite"
            convert(model, path, data=self.data, target=self.target)
            content = path.read_bytes()
        return trace(
            content,
            keras=model,
            data=self.data,
            samples=self.samples,
            runtime=self.runtime,
            thresholds=self.thresholds,
        )


def _nothing() -> dict[str, float]:
    return dict.fromkeys(FIGURES, math.nan)


def _figures(result: Trace) -> dict[str, float]:
    found = _nothing()
    found["gap_diverged"] = float(result.verdict == "diverged")
    inside = [body.evidence for body in result.evidence.bodies if body.evidence is not None]
    ops = [op for evidence in (result.evidence, *inside) for op in evidence.ops]
    own = [op.local.max_lsb for op in ops if op.local is not None]
    found["gap_local_max_lsb"] = max((size for size in own if size is not None), default=math.nan)
    output = _worst_output(result)
    if output is not None:
        stats, known = output
        found["gap_output_rmse"] = stats.rmse
        found["gap_output_rmse_lsb"] = stats.rmse / known.step if known.step else math.nan
    return found


def _worst_output(result: Trace) -> tuple[TensorStats, OutputStats] | None:
    """Return the final output with the largest error relative to the reference."""
    outputs = {output.tensor: output for output in result.evidence.outputs}
    found = [
        (op.accumulated, outputs[op.tensor])
        for op in result.evidence.ops
        if op.accumulated is not None and op.tensor in outputs
    ]
    return max(found, key=lambda pair: pair[0].relative_rmse, default=None)


def _said(gap: Gap) -> str:
    """Return one line that describes a gap."""
    where = f"epoch {gap.epoch + 1}: conversion gap"
    if gap.result is None:
        return f"{where}: not measured"
    figures = gap.figures
    sizes = f"output RMSE {number(figures['gap_output_rmse_lsb'])} LSB"
    if math.isnan(figures["gap_output_rmse_lsb"]):
        sizes = f"output RMSE {number(figures['gap_output_rmse'])}"
    return f"{where}: {gap.result.verdict}, {sizes}"


def _callback(name: str, base: Any) -> Any:
    """Create a callback class."""

    class Callback(base):  # type: ignore[misc]
        """A callback that measures after every Nth epoch how far the model is from its conversion.

        The model is converted in a child process and the conversion is traced against the live
        model.  The model's weights, its optimizer and the random state of the training do not
        change.  The figures are added to the epoch's ``logs``, so that they appear in the history
        of ``fit`` and reach the callbacks that follow in the list: ``gap_diverged`` (1 or 0),
        ``gap_local_max_lsb``, ``gap_output_rmse`` (real units) and ``gap_output_rmse_lsb``.  They
        are NaN after epochs without a measurement.  A failure is reported as a warning and kept in
        ``history``; the training continues.

        Args:
            data: The data to trace on, as for `tfldbg.trace`: a few hundred typical samples.  The
                conversion calibrates on it where the model has no ranges of its own.
            every: The number of epochs between measurements.
            target: The type to convert to, or a `tfldbg.Target`.
            samples: The largest number of samples to trace, 64 by default.
            runtime: As for `tfldbg.trace`.
            thresholds: As for `tfldbg.trace`.
            verbose: 1 to print one line for each measurement.

        Attributes:
            history: One `Gap` for each measurement.

        Raises:
            UsageError: The target or runtime does not exist, or ``every`` or ``samples`` is not a
                whole number of at least 1.
        """

        def __init__(
            self,
            data: DataSource,
            *,
            every: int = 1,
            target: Target | str = "int8",
            samples: int | None = None,
            runtime: str = "xnnpack",
            thresholds: Thresholds | None = None,
            verbose: int = 0,
        ) -> None:
            super().__init__()
            wanted = target if isinstance(target, Target) else Target(target)
            self._plan = _Settings(data, every, wanted, samples, runtime, thresholds)
            self._verbose = verbose
            self.history: list[Gap] = []

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Measure if this epoch is due."""
            figures: Mapping[str, float] = _nothing()
            if (epoch + 1) % self._plan.every == 0:
                gap = self._plan.measure(self.model, epoch)
                self.history.append(gap)
                figures = gap.figures
                self._tell(gap)
            if logs is not None:
                logs.update(figures)

        def _tell(self, gap: Gap) -> None:
            if gap.error is not None:
                message = f"{_said(gap)}: {gap.error.message}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            elif self._verbose:
                sys.stdout.write(f"{_said(gap)}\n")

    Callback.__name__ = Callback.__qualname__ = name
    return Callback


def __getattr__(name: str) -> Any:
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from tfldbg.reference.quiet import quiet

    with quiet():
        framework = import_module(_FRAMEWORKS[name])
    made = _callback(name, framework.callbacks.Callback)
    globals()[name] = made
    return made
