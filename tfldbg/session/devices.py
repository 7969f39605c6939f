"""Runs on a device: write the files to copy there, and read the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.device.benchmark_tool import leading_outputs, read_dumps
from tfldbg.device.kit import kit_files
from tfldbg.device.record import Spool, array_keys
from tfldbg.device.serial_log import logged_outputs, read_log
from tfldbg.device.tensors import as_array, output_tensors
from tfldbg.errors import CaptureError, DataError, UsageError
from tfldbg.files import check_target, scratch_folder, worded, write_bytes
from tfldbg.options.run_on import RunOn
from tfldbg.rewrite.expose import expose
from tfldbg.run.job import Loaded, check_mapping, load, prepare, prepare_samples
from tfldbg.session.exposing import protect

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.samples import Samples

DEFAULT_KIT_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Kit:
    """The written kit."""

    samples: int
    data: str
    """The given path of the data, or ``"random"``."""
    exposed: int
    """The number of operator outputs that the exposed model returns."""
    skipped: int
    """The number of operator outputs that cannot be read; `expose_model` returns the reasons."""
    files: tuple[str, ...]
    repair: str | None = None
    """The difference of both models from the user's file, if LiteRT refuses that."""


def write_kit(
    model: ModelSource,
    folder: Path | str,
    target: str,
    *,
    run_on: RunOn | None = None,
) -> Kit:
    """Write a folder for a device: the exposed model, samples, and a script that runs them.

    Args:
        model: The path or bytes of the .tflite file.
        folder: The folder for the files, which is created if it does not exist.
        target: ``"board"``, ``"android"`` or ``"micro"``.
        run_on: The data, of which 8 samples are used by default; the main subgraph is run.

    Raises:
        TfldbgError: A file, the data or the options are invalid.
    """
    run_on = run_on or RunOn()
    if run_on.samples is None:
        run_on = replace(run_on, samples=DEFAULT_KIT_SAMPLES)
    job = prepare(model, run_on)
    rows = [job.samples.codes(number) for number in range(job.samples.count)]
    inputs = [spec.tensor for spec in job.loaded.specs]
    original = bytes(job.original.content)
    exposed = expose(job.loaded.graph, job.subgraph, named=True)
    content = kit_files(target, exposed.model_bytes, original, inputs, rows)
    _check_folder(Path(folder), content)
    for name in content:
        protect(Path(folder) / name, "--output", model, run_on.data)
    for name, value in content.items():
        path = Path(folder) / name
        _make_folder(path.parent)
        write_bytes(path, value)
    return Kit(
        job.samples.count,
        job.samples.source,
        len(exposed.taps),
        len(exposed.skipped),
        tuple(content),
        exposed.repair.said if exposed.repair else None,
    )


def _check_folder(folder: Path, content: Iterable[str]) -> None:
    """Refuse to overwrite files that are not those of a kit."""
    if not str(folder).strip() or folder == Path():
        raise UsageError("no folder is given", hint="for example --output kit")
    there = [name for name in content if (folder / name).exists()]
    if there and not (folder / "exposed.tflite").exists():
        raise UsageError(
            f"'{folder}' is not a kit, and its '{there[0]}' would be overwritten",
            hint="name another folder with --output",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create the folder '{folder}': {error.strerror or error}",
            hint="name another folder with --output",
        ) from error


@dataclass(frozen=True, slots=True)
class Imported:
    """The imported run."""

    samples: int
    tensors: int
    has_inputs: bool
    differing: tuple[int, ...] | None
    """The samples in which the untouched model's outputs differ; None if not compared."""


def import_run(
    result: Path | str,
    output: Path | str,
    *,
    model: ModelSource,
    untouched: Path | str | None = None,
    run_on: RunOn | None = None,
) -> Imported:
    """Convert the result of a device to a recording.

    Args:
        result: A folder of raw outputs, one file per sample, or a serial log.
        output: The .npz to write.
        model: The exposed model that ran.
        untouched: The result of the untouched model on the same samples, to compare with.
        run_on: The data that it ran on, and the largest number of samples.  Without data the
            recording holds no inputs.

    Raises:
        TfldbgError: A file, the data or the options are invalid.
    """
    run_on = run_on or RunOn()
    protect(Path(output), "--output", result, model, run_on.data, untouched)
    loaded = load(model)
    tensors = output_tensors(loaded.subgraph, loaded.path)
    rows = _read(Path(result), tensors, run_on.samples)
    samples = _inputs(loaded, run_on, len(rows), str(result))
    differing = None
    if untouched is not None:
        differing = _differing(rows, tensors, Path(result), Path(untouched), run_on.samples)
    _write(Path(output), loaded, tensors, rows, samples)
    count = len({t.index for t in tensors} | set(loaded.subgraph.inputs if samples else ()))
    return Imported(len(rows), count, samples is not None, differing)


def _read(path: Path, tensors: Sequence[Tensor], limit: int | None) -> Sequence[list[bytes]]:
    """Return the bytes of all outputs, sample by sample."""
    if path.is_dir():
        return list(read_dumps(path, tensors, limit))
    if path.is_file():
        return read_log(path, tensors, limit)
    raise CaptureError(
        f"'{path}' does not exist",
        hint="give a serial log, or the folder written by benchmark_model",
    )


def _inputs(loaded: Loaded, run_on: RunOn, count: int, result: str) -> Samples | None:
    """Return the samples that the device ran on, None if they are not given."""
    if run_on.data is None:
        return None
    check_mapping(loaded, run_on)
    samples = prepare_samples(loaded, replace(run_on, samples=run_on.samples or count))
    held = samples.count if run_on.samples else samples.held
    if held != count:
        raise DataError(
            f"'{result}' holds {count} samples, but the data {held}",
            hint="give the data of the device (the kit's inputs.npz), or use the first samples "
            f"of both: --samples {min(count, held)}",
        )
    return samples


def _differing(
    rows: Sequence[list[bytes]],
    tensors: Sequence[Tensor],
    result: Path,
    untouched: Path,
    limit: int | None,
) -> tuple[int, ...]:
    """Return the samples in which the untouched model's outputs differ in any byte.

    An exposed file has the outputs of the untouched one first.
    """
    if untouched.exists() and untouched.samefile(result):
        raise UsageError(
            f"--untouched {untouched} is the result to import itself",
            hint="give the result of the untouched model",
        )
    reader = leading_outputs if untouched.is_dir() else logged_outputs
    finals = tensors[: reader(untouched, tensors)] if untouched.exists() else tensors
    others = _read(untouched, finals, limit)
    if len(others) != len(rows):
        raise CaptureError(
            f"'{untouched}' holds {len(others)} samples, but '{result}' {len(rows)}",
            hint="run both models on the same samples",
        )
    pairs = enumerate(zip(rows, others, strict=True))
    return tuple(n for n, (row, other) in pairs if row[: len(finals)] != other)


def _write(
    output: Path,
    loaded: Loaded,
    tensors: Sequence[Tensor],
    rows: Sequence[list[bytes]],
    samples: Samples | None,
) -> None:
    """Write the recording: inputs first, then operator outputs in execution order."""
    place = {index: op.index for index, op in loaded.subgraph.producers.items()}
    given = [spec.tensor for spec in loaded.specs] if samples else []
    written = sorted(tensors, key=lambda tensor: place.get(tensor.index, -1))
    keys = array_keys({tensor.index: tensor.name for tensor in (*given, *written)})
    check_target(output)
    with (
        worded(output),
        scratch_folder(output.parent) as folder,
        Spool(str(folder / output.name)) as spool,
    ):
        for number, row in enumerate(rows):
            arrays = {t.index: as_array(b, t) for t, b in zip(tensors, row, strict=True)}
            if samples:
                codes = samples.codes(number)
                arrays |= {t.index: a for t, a in zip(given, codes, strict=True)}
            for index in keys:
                spool.append(index, arrays[index])
        spool.finish(keys)
        (folder / output.name).replace(output)
