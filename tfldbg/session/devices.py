"""Runs on a device: write what is copied there, and read what comes back."""

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
    """What was written."""

    samples: int
    data: str
    """The path given, or ``"random"``."""
    exposed: int
    """Operator outputs that the exposed model hands out."""
    skipped: int
    """Those that cannot be read; `expose_model` tells why."""
    files: tuple[str, ...]
    repair: str | None = None
    """What differs in both models from the user's file, which LiteRT refuses."""


def write_kit(
    model: ModelSource,
    folder: Path | str,
    target: str,
    *,
    run_on: RunOn | None = None,
) -> Kit:
    """Write a folder to copy to a device: the exposed model, samples, and what runs them.

    Args:
        model: Path or bytes of the .tflite file.
        folder: Where the files go; made where it does not exist.
        target: ``"board"``, ``"android"`` or ``"micro"``.
        run_on: The data, 8 samples of it by default; the main subgraph is what runs.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options.
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
    """Refuse to write over files that are no kit's."""
    if not str(folder).strip() or folder == Path():
        raise UsageError("no folder is named", hint="name one with --output, such as kit")
    there = [name for name in content if (folder / name).exists()]
    if there and not (folder / "exposed.tflite").exists():
        raise UsageError(
            f"'{folder}' holds '{there[0]}' and no kit, so that it would be overwritten",
            hint="name another folder with --output",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder '{folder}': {error.strerror or error}",
            hint="name another folder with --output",
        ) from error


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read."""

    samples: int
    tensors: int
    has_inputs: bool
    differing: tuple[int, ...] | None
    """Samples in which the untouched model's outputs are others; None where nobody compared."""


def import_run(
    result: Path | str,
    output: Path | str,
    *,
    model: ModelSource,
    untouched: Path | str | None = None,
    run_on: RunOn | None = None,
) -> Imported:
    """Turn what a device handed out into a recording.

    Args:
        result: A folder of raw outputs, one file a sample, or a serial log.
        output: The .npz to write.
        model: The exposed model that ran.
        untouched: What the untouched model handed out on the same samples, to compare with.
        run_on: The data that it ran on, and how many samples at most.  Without data the recording
            holds no inputs.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options.
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
    """Return the bytes of every output, sample by sample."""
    if path.is_dir():
        return list(read_dumps(path, tensors, limit))
    if path.is_file():
        return read_log(path, tensors, limit)
    raise CaptureError(
        f"'{path}' does not exist",
        hint="give a serial log, or the folder that benchmark_model wrote",
    )


def _inputs(loaded: Loaded, run_on: RunOn, count: int, result: str) -> Samples | None:
    """Return the samples that the device ran on, None where nobody gives them."""
    if run_on.data is None:
        return None
    check_mapping(loaded, run_on)
    samples = prepare_samples(loaded, replace(run_on, samples=run_on.samples or count))
    held = samples.count if run_on.samples else samples.held
    if held != count:
        raise DataError(
            f"'{result}' holds {count} samples, the data {held}",
            hint="give what the device was given (the kit's inputs.npz), or take the first samples "
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
    """Return the samples in which the untouched model's outputs are others, byte for byte.

    An exposed file has the outputs of the untouched one first.
    """
    if untouched.exists() and untouched.samefile(result):
        raise UsageError(
            f"--untouched {untouched} is what is to be imported",
            hint="give what the untouched model handed out",
        )
    reader = leading_outputs if untouched.is_dir() else logged_outputs
    finals = tensors[: reader(untouched, tensors)] if untouched.exists() else tensors
    others = _read(untouched, finals, limit)
    if len(others) != len(rows):
        raise CaptureError(
            f"'{untouched}' holds {len(others)} samples, '{result}' {len(rows)}",
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
    """Write the recording: inputs first, then what operators write, in their order."""
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
