"""The functions of the Python API, with every option as a keyword.

This file is written by ``pytest --renew`` from the groups in `tfldbg.options`, where the options
are declared.
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
    dump_exact: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """Find the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.

    Args:
        model: The path or bytes of the .tflite file.
        keras: The path of the Keras model (.h5, .keras, SavedModel folder), or a live model.
        against: The path or bytes of a sound .tflite file made from the same model, or the path of
            a recording.
        against_runtime: Other kernels to run the same file with, as the reference.
        reference: An emulation to compare with, made from the file itself: ``"emulated"``,
            ``"float-ranges"`` or ``"fake-quant-ranges"``. Or your own function that maps inputs by
            name, (n, ...) float32 in real units, to tensors by name, whose first axis is samples;
            or the function's name: an entry point of the group ``tfldbg.references``, or
            ``"module:function"``.
        unsafe: True to allow Keras files and SavedModels that can run code or access other files.
        cached: False to load the Keras model without the cache of earlier runs, and to cache
            nothing of it; ``tfldbg cache`` shows the folder.
        data: The path of the input data (arrays, or a folder of pictures), an array for a single
            input, or arrays by input name. Float arrays are in real units, integer arrays in the
            input's own type are codes; the first axis is samples. None for random samples.
        scale: The real values of 0 and 255 in pictures and uint8 data.
        inputs: The array name, or the reference's input name, for each input name.
        samples: The largest number of samples; 64 by default, or more to make streams whole.
        steps: The number of consecutive samples that are the steps of one stream: a model's state
            is reset before each stream and kept from step to step. 1 resets it before each sample.
        seed: The seed of the random samples.
        runtime: The kernels to run: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` of LiteRT,
            ``"tf"`` for the interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for
            Microcontrollers.
        delegate: The path of an external delegate, a shared library that computes operators instead
            of the runtime; or the result of `delegate_of`.
        delegate_options: The options of the delegate, by key, or as ``"KEY=VALUE"``.
        signature: The signature, if there are several.
        timeout: The time limit in seconds for loading the model, and for each sample: 600 by
            default.
        memory_limit: The memory limit in GiB of all processes that run models together: 3/4 of the
            machine's by default.
        workers: The number of processes of this machine that share the samples; by default as many
            as processors, fewer for few samples or little memory. The measurements are the same, up
            to the last digits of sums.
        scheduler: The address of a Dask cluster whose workers share the samples.
        labels: The right class of each sample, for the accuracy of each side: the name of an array
            of ``data``, a path, or an array; class numbers or one-hot.
        top_k: The number of largest values that count for top-k accuracy.
        tolerance: The largest accepted difference of final outputs, real units; 0.01 by default.
            Never changes the verdict.
        worst: The number of samples with the largest final error to compare operator by operator.
        histograms: True to measure histograms of the errors of each operator.
        compounding: True to measure which operators cause the error of the final outputs.
        by_step: True to measure the errors of each time step of a recurrent network.
        metrics: Your own metrics for each operator: functions by name, or names of entry points of
            the group ``tfldbg.metrics`` or of functions, ``"module:function"``. A function is
            called with the reference's and TFLite's values of one sample of a tensor, float32 in
            real units, and returns a number.
        pictures: True to measure the data for the pictures of `Trace.to_html`, histograms and pairs
            of values; a dump always holds it.
        thresholds: The local error that arithmetic explains, by kind of operator.
        dump: The file for a recording of all tensors of both sides (HDF5).
        dump_exact: True to record the reference's own values (float32) instead of the errors
            rounded to 1/1024 LSB (float16).
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid; the message tells the reason.
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
        dump_exact,
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
        model: The path or bytes of the .tflite file.
        path: The HDF5 file to write.
        data: The path of the input data (arrays, or a folder of pictures), an array for a single
            input, or arrays by input name. Float arrays are in real units, integer arrays in the
            input's own type are codes; the first axis is samples. None for random samples.
        scale: The real values of 0 and 255 in pictures and uint8 data.
        inputs: The array name, or the reference's input name, for each input name.
        samples: The largest number of samples; 64 by default, or more to make streams whole.
        steps: The number of consecutive samples that are the steps of one stream: a model's state
            is reset before each stream and kept from step to step. 1 resets it before each sample.
        seed: The seed of the random samples.
        runtime: The kernels to run: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` of LiteRT,
            ``"tf"`` for the interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for
            Microcontrollers.
        delegate: The path of an external delegate, a shared library that computes operators instead
            of the runtime; or the result of `delegate_of`.
        delegate_options: The options of the delegate, by key, or as ``"KEY=VALUE"``.
        signature: The signature, if there are several.
        timeout: The time limit in seconds for loading the model, and for each sample: 600 by
            default.
        memory_limit: The memory limit in GiB of all processes that run models together: 3/4 of the
            machine's by default.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid; the message tells the reason.
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
    """Convert a Keras model to a .tflite file, which is written completely or not at all.

    Args:
        keras: The path of a ``.h5``, ``.keras`` or SavedModel, or a live model.
        output: The file to write.
        target: The type and form of the file; int8 with integer inputs and outputs by default.
        calibrate: ``"all-values"`` to set the ranges of a quantization-aware model to the extremes
            of all values on the data.
        save_keras: The file for the recalibrated Keras model (.h5).
        timeout: The time limit of the converter in seconds, 7200 by default, longer than any known
            conversion.
        data: The path of the input data (arrays, or a folder of pictures), an array for a single
            input, or arrays by input name. Float arrays are in real units, integer arrays in the
            input's own type are codes; the first axis is samples. None for random samples.
        scale: The real values of 0 and 255 in pictures and uint8 data.
        inputs: The array name, or the reference's input name, for each input name.
        samples: The largest number of samples; 64 by default, or more to make streams whole.
        seed: The seed of the random samples.
        signature: The signature, if there are several.
        unsafe: True to allow Keras files and SavedModels that can run code or access other files.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid, or the converter refuses the model
            or crashes.
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
