"""The functions of the Python API, with every option as a keyword.

This file is written by ``pytest --renew`` from the groups in `tfldbg.options`: an option is
declared there, and only there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg import session
from tfldbg.options.against import Against
from tfldbg.options.convert import Convert, Target
from tfldbg.options.judge import Judge, Thresholds
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.runtimes import Delegate
    from tfldbg.options.sources import (
        DataSource,
        LabelSource,
        Metrics,
        ModelSource,
        ReferenceFunction,
    )
    from tfldbg.progress import Progress
    from tfldbg.session import Trace
    from tfldbg.session.converting import Converted


def trace(
    model: ModelSource,
    *,
    keras: Any = None,
    against: ModelSource | None = None,
    against_runtime: str | None = None,
    reference: str | ReferenceFunction | None = None,
    unsafe: bool = False,
    cached: bool = True,
    data: DataSource = None,
    scale: tuple[float, float] | None = None,
    inputs: Mapping[str, str] | None = None,
    samples: int | None = None,
    steps: int = 1,
    seed: int = 0,
    runtime: str = "xnnpack",
    delegate: Delegate | Path | str | None = None,
    delegate_options: Mapping[str, str] | Sequence[str] | None = None,
    signature: str | None = None,
    timeout: float | None = None,
    memory_limit: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    labels: LabelSource = None,
    top_k: int = 5,
    tolerance: float | None = None,
    worst: int = 0,
    histograms: bool = False,
    compounding: bool = False,
    by_step: bool = False,
    metrics: Metrics = None,
    pictures: bool = False,
    thresholds: Thresholds | None = None,
    dump: Path | str | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Find the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.

    Args:
        model: Path or bytes of the .tflite file.
        keras: Path of the Keras model (.h5, .keras, SavedModel folder), or a live model.
        against: Path or bytes of a sound .tflite file made from the same model, or path of a
            recording.
        against_runtime: Other kernels to compare with on the same file.
        reference: An emulation to compare with, made from the file itself: ``"emulated"``,
            ``"float-ranges"`` or ``"fake-quant-ranges"``. Or a function of your own that maps
            inputs by name, (n, ...) float32 in real units, to tensors by name, first axis samples;
            or its name: an entry point of the group ``tfldbg.references``, or
            ``"module:function"``.
        unsafe: Allow Keras files and SavedModels that can run code or reach other files.
        cached: Whether to use what an earlier run kept of the same Keras file, and to keep this
            run's; `tfldbg cache` shows where.
        data: Path of the input data (arrays, or a folder of pictures), an array for a single input,
            or arrays by input name; float arrays in real units, integer arrays in the input's own
            type as codes; first axis samples. None draws random samples.
        scale: The real values that 0 and 255 of pictures, and of uint8 data, stand for.
        inputs: Input name to array name or to the reference's input name.
        samples: At most so many samples, 64 by default, or as many more as make streams whole.
        steps: How many samples in a row are the steps of one stream: a model's state is reset
            before each stream and kept from step to step. 1 resets it before every sample.
        seed: The seed of the random samples.
        runtime: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` kernels of LiteRT, ``"tf"`` for the
            interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for Microcontrollers.
        delegate: Path of an external delegate, a shared library that takes operators over from the
            runtime; or what `delegate_of` makes of it.
        delegate_options: The options of the delegate, by key, or as ``"KEY=VALUE"``.
        signature: Which signature, where there are several.
        timeout: Seconds that loading the model, or one sample, may take: 600 by default.
        memory_limit: GiB that all processes that run models may take together: 3/4 of the machine's
            by default.
        workers: How many processes of this machine share the samples; this one alone by default.
            What is measured is the same, up to the last digits of sums.
        scheduler: The address of a Dask cluster whose workers share the samples.
        labels: The right class of every sample, for the accuracy of each side: the name of an array
            of ``data``, a path, or an array; class numbers or one-hot.
        top_k: How many of the largest values count for top-k accuracy.
        tolerance: By how much final outputs may differ, real units; 0.01 by default. Never decides
            the verdict.
        worst: How many of the samples with the largest final error to compare operator by operator.
        histograms: Whether to count a histogram of every operator's errors.
        compounding: Measure which operators account for the error of the final outputs.
        by_step: Whether to show the errors of each time step of a recurrent network.
        metrics: Metrics of your own, measured for every operator: functions by name, or names of
            entry points of the group ``tfldbg.metrics`` or of functions, ``"module:function"``. A
            function is called with the reference's and TFLite's values of one sample of a tensor,
            float32 in real units, and returns a number.
        pictures: Whether to keep what the pictures of `Trace.to_html` are drawn from, histograms
            and pairs of values; a dump always holds them.
        thresholds: How much of an operator's own error arithmetic explains.
        dump: Where to record every tensor of both sides (HDF5).
        progress: Receives how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options; the message says what.
    """
    request = session.Request(
        model,
        Against(
            keras=keras,
            against=against,
            against_runtime=against_runtime,
            reference=reference,
            unsafe=unsafe,
            cached=cached,
        ),
        RunOn(
            data=data,
            scale=scale,
            inputs=inputs or {},
            samples=samples,
            steps=steps,
            seed=seed,
            runtime=runtime,
            delegate=delegate,
            delegate_options=delegate_options or {},
            signature=signature,
            timeout=timeout,
            memory_limit=memory_limit,
            workers=workers,
            scheduler=scheduler,
        ),
        Measure(
            labels=labels,
            top_k=top_k,
            tolerance=tolerance,
            worst=worst,
            histograms=histograms,
            compounding=compounding,
            by_step=by_step,
            metrics=metrics,
            pictures=pictures,
        ),
        Judge(thresholds=thresholds or Thresholds()),
        dump,
    )
    return session.trace(request, progress)


def record(
    model: ModelSource,
    path: Path | str,
    *,
    data: DataSource = None,
    scale: tuple[float, float] | None = None,
    inputs: Mapping[str, str] | None = None,
    samples: int | None = None,
    steps: int = 1,
    seed: int = 0,
    runtime: str = "xnnpack",
    delegate: Delegate | Path | str | None = None,
    delegate_options: Mapping[str, str] | Sequence[str] | None = None,
    signature: str | None = None,
    timeout: float | None = None,
    memory_limit: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """Record every tensor of a .tflite file and compare nothing.

    Args:
        model: Path or bytes of the .tflite file.
        path: The HDF5 file to write.
        data: Path of the input data (arrays, or a folder of pictures), an array for a single input,
            or arrays by input name; float arrays in real units, integer arrays in the input's own
            type as codes; first axis samples. None draws random samples.
        scale: The real values that 0 and 255 of pictures, and of uint8 data, stand for.
        inputs: Input name to array name or to the reference's input name.
        samples: At most so many samples, 64 by default, or as many more as make streams whole.
        steps: How many samples in a row are the steps of one stream: a model's state is reset
            before each stream and kept from step to step. 1 resets it before every sample.
        seed: The seed of the random samples.
        runtime: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` kernels of LiteRT, ``"tf"`` for the
            interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for Microcontrollers.
        delegate: Path of an external delegate, a shared library that takes operators over from the
            runtime; or what `delegate_of` makes of it.
        delegate_options: The options of the delegate, by key, or as ``"KEY=VALUE"``.
        signature: Which signature, where there are several.
        timeout: Seconds that loading the model, or one sample, may take: 600 by default.
        memory_limit: GiB that all processes that run models may take together: 3/4 of the machine's
            by default.
        progress: Receives how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options; the message says what.
    """
    return session.record(
        model,
        path,
        run_on=RunOn(
            data=data,
            scale=scale,
            inputs=inputs or {},
            samples=samples,
            steps=steps,
            seed=seed,
            runtime=runtime,
            delegate=delegate,
            delegate_options=delegate_options or {},
            signature=signature,
            timeout=timeout,
            memory_limit=memory_limit,
        ),
        progress=progress,
    )


def convert(
    keras: Any,
    output: Path | str,
    *,
    target: Target | None = None,
    calibrate: str | None = None,
    save_keras: Path | str | None = None,
    timeout: float = 7200.0,
    data: DataSource = None,
    scale: tuple[float, float] | None = None,
    inputs: Mapping[str, str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    signature: str | None = None,
    unsafe: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a Keras model to a .tflite file, which is written whole or not at all.

    Args:
        keras: Path of a ``.h5``, ``.keras`` or SavedModel, or a live model.
        output: The file to write.
        target: Type and form of the file; int8 with integer inputs and outputs by default.
        calibrate: ``"all-values"`` to set the ranges of a quantization-aware model to those of all
            values that the data gives.
        save_keras: Where to write the recalibrated Keras model (.h5).
        timeout: Seconds that the converter may take, 7200 by default: longer than any conversion
            seen.
        data: Path of the input data (arrays, or a folder of pictures), an array for a single input,
            or arrays by input name; float arrays in real units, integer arrays in the input's own
            type as codes; first axis samples. None draws random samples.
        scale: The real values that 0 and 255 of pictures, and of uint8 data, stand for.
        inputs: Input name to array name or to the reference's input name.
        samples: At most so many samples, 64 by default, or as many more as make streams whole.
        seed: The seed of the random samples.
        signature: Which signature, where there are several.
        unsafe: Allow Keras files and SavedModels that can run code or reach other files.
        progress: Receives how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options, or the converter
            refuses the model or crashes.
    """
    return session.convert(
        keras,
        output,
        Convert(
            target=target or Target(), calibrate=calibrate, save_keras=save_keras, timeout=timeout
        ),
        RunOn(
            data=data,
            scale=scale,
            inputs=inputs or {},
            samples=samples,
            seed=seed,
            signature=signature,
        ),
        unsafe=unsafe,
        progress=progress,
    )
