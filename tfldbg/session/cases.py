"""From arguments, templates and manifests to the list of traces of a sweep.  Traces nothing."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfldbg.diagnose.outcome import Case
from tfldbg.errors import UsageError
from tfldbg.options.against import is_recording
from tfldbg.run.job import Options, check_options

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SEED = "{seed}"
_MOST_SEEDS = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """An argument of ``tfldbg sweep``, or a line of its manifest, before it is expanded."""

    model: str = ""
    """A path or a pattern (``*``, ``?``, ``[...]``, ``**``), ``{seed}`` in it or not."""
    keras: str | None = None
    """This and the other paths: ``{stem}``, ``{name}``, ``{dir}`` of the model and ``{seed}``."""
    against: str | None = None
    against_runtime: str | None = None
    data: str | None = None
    seeds: tuple[int, ...] = (0,)
    samples: int | None = None
    runtimes: tuple[str, ...] = ("xnnpack",)
    signature: str | None = None

    @property
    def reference(self) -> tuple[str, str | None]:
        """The kind of reference and its template.

        Raises:
            UsageError: There is more than one.
        """
        named = {
            "keras": self.keras,
            "capture" if is_recording(self.against) else "tflite": self.against,
            "runtime": self.against_runtime,
        }
        given = [(kind, value) for kind, value in named.items() if value is not None]
        if len(given) > 1:
            raise UsageError(
                f"a trace has one reference, and '{self.model}' has {len(given)}: "
                + ", ".join(f"'{value}'" for _, value in given),
                hint="keep one of keras, against and against-runtime, and sweep again for another",
            )
        return given[0] if given else ("self", None)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``0-11``, ``0,3,5`` or ``0-3,8``.

    Raises:
        UsageError: It is something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if last < first or last - first >= _MOST_SEEDS:
            raise UsageError(
                f"'{text}' are no seeds",
                hint=f"give a range or a list of at most {_MOST_SEEDS}: 0-11 or 0,3,5 or 0-3,8",
            )
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))


def requests(models: Sequence[str], manifest: str | None, given: Request) -> tuple[Request, ...]:
    """Return one request an argument, then one a line of the manifest.

    Args:
        models: Paths and patterns.
        manifest: Path of a CSV file, see `read_manifest`.
        given: What counts for all of them.

    Raises:
        UsageError: The manifest cannot be read.
    """
    named = tuple(replace(given, model=model) for model in models)
    return (*named, *(read_manifest(Path(manifest), given) if manifest is not None else ()))


def plan(wanted: Sequence[Request]) -> tuple[Case, ...]:
    """Expand patterns, templates, seeds and runtimes: one case a trace, duplicates dropped.

    Raises:
        UsageError: A pattern matches no file, or an option asks for something that does not exist.
    """
    cases = [case for request in wanted for case in _expand(request)]
    if not cases:
        raise UsageError(
            "there is nothing to sweep", hint="name models, 'models/*.tflite', or a --manifest"
        )
    return tuple(dict.fromkeys(cases))


def _expand(request: Request) -> list[Case]:
    kind, reference = request.reference
    for runtime in request.runtimes:
        check_options(Options(request.samples, request.seeds[0], runtime))
    seeded = any(_SEED in (text or "") for text in (request.model, reference, request.data))
    drawn = request.data is None and kind != "capture"
    if len(request.seeds) > 1 and not seeded and not drawn:
        raise UsageError(
            f"'{request.model}' would be traced {len(request.seeds)} times on the same data: seeds "
            "draw the random data, and this data is given",
            hint="leave the data or the seeds out, or put {seed} into a path",
        )
    return [
        Case(
            model=model,
            reference_kind=kind,
            reference=_filled(reference, model, seed),
            data=_filled(request.data, model, seed),
            seed=seed if seeded or drawn else None,
            samples=request.samples,
            runtime=runtime,
            signature=request.signature,
            family=request.model if _SEED in request.model else model,
        )
        for seed, model in _models(request)
        for runtime in request.runtimes
    ]


def _models(request: Request) -> list[tuple[int, str]]:
    """Return seeds and files, all seeds of a file together where the file has none of its own."""
    if Path(request.model).is_file():
        return [(seed, str(Path(request.model))) for seed in request.seeds]
    if _SEED in request.model:
        return [
            (seed, model)
            for seed in request.seeds
            for model in _matches(_fill(request.model, {"seed": str(seed)}))
        ]
    models = _matches(_fill(request.model, {"seed": ""}))
    return [(seed, model) for model in models for seed in request.seeds]


def _matches(pattern: str) -> list[str]:
    """Return the files of a pattern, sorted; a plain path is itself, whether it exists or not.

    That a single file is missing is a row of the sweep, like everything else that is wrong with it.
    """
    path = Path(pattern)
    if path.is_dir():
        raise UsageError(
            f"'{pattern}' is a folder", hint=f"name what is in it: '{path / '*.tflite'}'"
        )
    if path.is_file() or not glob.has_magic(pattern):
        return [str(path)]
    found = sorted(str(Path(p)) for p in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [p for p in found if Path(p).is_file()]
    if not files:
        raise UsageError(f"'{pattern}' matches no file", hint="check the folder and the pattern")
    return files


def _filled(template: str | None, model: str, seed: int) -> str | None:
    if template is None:
        return None
    path = Path(model)
    names = {"stem": path.stem, "name": path.name, "dir": str(path.parent), "seed": str(seed)}
    return _fill(template, names)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Fill in the placeholders of a template.

    Raises:
        UsageError: There is no such placeholder.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise UsageError(
                f"there is no {found[0]} in '{template}'", hint=f"what is filled in here: {known}"
            )
        return values[found[1]]

    return _PLACEHOLDER.sub(value, template)


_PATHS = ("keras", "against", "data")
_COLUMNS = ("model", *_PATHS, "against-runtime", "seed", "samples", "runtime", "signature")


def read_manifest(path: Path, given: Request) -> tuple[Request, ...]:
    """Read a CSV file with one line a model.

    Args:
        path: The file.  Its columns are `_COLUMNS`; paths are relative to its folder.
        given: What counts where a cell is empty.

    Raises:
        UsageError: The file is missing or no such CSV.
    """
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read the manifest '{path}': {reason}", hint="give a CSV file with --manifest"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_columns(path, reader.fieldnames or ())
        return tuple(_request(path, reader.line_num, row, given) for row in reader)
    except csv.Error as error:
        raise UsageError(
            f"the manifest '{path}' is no CSV file: line {reader.line_num}: {error}",
            hint="separate cells by commas, and quote those that hold one",
        ) from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    unknown = [name for name in names if name.strip() not in _COLUMNS]
    if unknown or "model" not in [name.strip() for name in names]:
        wrong = f"has a column '{unknown[0]}'" if unknown else "has no column 'model'"
        raise UsageError(
            f"the manifest '{path}' {wrong}",
            hint=f"the first line names the columns, out of {', '.join(_COLUMNS)}",
        )


def _request(path: Path, line: int, row: Mapping[str | None, object], given: Request) -> Request:
    where = f"the manifest '{path}', line {line}"
    cells = {str(k).strip(): v.strip() for k, v in row.items() if isinstance(v, str) and v.strip()}
    if None in row or "model" not in cells:
        wrong = "more cells than columns" if None in row else "no model"
        raise UsageError(f"{where}: {wrong}", hint="give every line one cell for each column")
    if {"keras", "against", "against-runtime"} & set(cells):
        given = replace(given, keras=None, against=None, against_runtime=None)
    located = {name: _located(path.parent, cells[name]) for name in _PATHS if name in cells}
    try:
        return replace(
            given,
            model=_located(path.parent, cells["model"]),
            keras=located.get("keras", given.keras),
            against=located.get("against", given.against),
            against_runtime=cells.get("against-runtime", given.against_runtime),
            data=located.get("data", given.data),
            seeds=parse_seeds(cells["seed"]) if "seed" in cells else given.seeds,
            samples=_number(cells["samples"]) if "samples" in cells else given.samples,
            runtimes=(cells["runtime"],) if "runtime" in cells else given.runtimes,
            signature=cells.get("signature", given.signature),
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error


def _located(folder: Path, cell: str) -> str:
    """Return a cell as a path from the working directory; ``{dir}`` is one already."""
    return cell if cell.startswith("{dir}") else str(folder / cell)


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"'{text}' is no number of samples", hint="for example 64")
    return int(text)
