"""Expand patterns and templates to the list of traces of a sweep."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfldbg.diagnose.outcome import Case
from tfldbg.errors import UsageError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.options.runtimes import Kernels

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SEED = "{seed}"
_MOST_SEEDS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """An argument of ``tfldbg sweep``, before it is expanded."""

    model: str
    """A path or a pattern (``*``, ``?``, ``[...]``, ``**``), which may hold ``{seed}``."""
    against: Against = field(default_factory=Against)
    """The reference; paths are templates: ``{stem}``, ``{name}``, ``{dir}`` of the model,
    ``{seed}``."""
    run_on: RunOn = field(default_factory=RunOn)
    """The data and the runtime; the path of the data is such a template."""
    seeds: tuple[int, ...] = (0,)
    runtimes: tuple[str, ...] = ("xnnpack",)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``0-11``, ``0,3,5`` or ``0-3,8``.

    Raises:
        UsageError: The text has another form.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if last < first or last - first >= _MOST_SEEDS:
            raise UsageError(
                f"invalid value '{text}' for --seeds: must be numbers and ranges",
                hint=f"for example --seeds 0-11 or 0,3,5 or 0-3,8; at most {_MOST_SEEDS} in a "
                "range",
            )
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))


def plan(wanted: Sequence[Models]) -> tuple[Case, ...]:
    """Expand patterns, templates, seeds and runtimes to one case per trace, without duplicates.

    Raises:
        UsageError: A pattern matches no file, or an option names something that does not exist.
    """
    cases = {_identity(case): case for models in wanted for case in _expand(models)}
    if not cases:
        raise UsageError("no models are given", hint="for example tfldbg sweep 'models/*.tflite'")
    return tuple(cases.values())


def _identity(case: Case) -> str:
    """Return what two cases have in common if one of them is enough."""
    run_on = replace(case.run_on, seed=0 if case.seed is None else case.seed)
    return repr((case.model, case.reference, run_on))


def _expand(models: Models) -> list[Case]:
    against, run_on = models.against, models.run_on
    delegate = run_on.kernels.delegate  # a missing one is an error of every row
    # The caller applies the options of the whole sweep: each trace runs in one process.
    alone = replace(
        run_on,
        delegate=delegate,
        delegate_options=None,
        workers=None,
        scheduler=None,
        timeout=None,
        memory_limit=None,
    )
    for runtime in models.runtimes:
        Kernels(runtime).check()
    kind = _kind(models)
    named = (models.model, against.named, run_on.data)
    seeded = any(_SEED in str(text) for text in named)
    drawn = run_on.data is None and kind != "capture"
    if len(models.seeds) > 1 and not seeded and not drawn:
        raise UsageError(
            f"'{models.model}' would be traced {len(models.seeds)} times on the same data: seeds "
            "are for random data, but data is given",
            hint="leave the data or the seeds out, or put {seed} into a path",
        )
    return [
        Case(
            model=model,
            against=replace(
                against,
                keras=_filled(against.keras, model, seed),
                against=_filled(against.against, model, seed),
            ),
            run_on=replace(
                alone, data=_filled(run_on.data, model, seed), seed=seed, runtime=runtime
            ),
            seed=seed if seeded or drawn else None,
            family=models.model if _SEED in models.model else model,
        )
        for seed, model in _models(models)
        for runtime in models.runtimes
    ]


def _kind(models: Models) -> str:
    """Return the kind of reference of all rows of an argument.

    Raises:
        UsageError: There are several references.
    """
    try:
        return models.against.kind
    except UsageError as error:
        raise UsageError(f"'{models.model}': {error.message}", hint=error.hint) from error


def _models(wanted: Models) -> list[tuple[int, str]]:
    """Return seeds and files, ordered by file if the files do not depend on the seed."""
    if Path(wanted.model).is_file():
        return [(seed, str(Path(wanted.model))) for seed in wanted.seeds]
    if _SEED in wanted.model:
        return [
            (seed, model)
            for seed in wanted.seeds
            for model in _matches(_fill(wanted.model, {"seed": str(seed)}))
        ]
    models = _matches(_fill(wanted.model, {"seed": ""}))
    return [(seed, model) for model in models for seed in wanted.seeds]


def _matches(pattern: str) -> list[str]:
    """Return the files of a pattern, sorted; a plain path is returned even if it does not exist.

    A missing file becomes a row of the sweep, like any other error of a file.
    """
    path = Path(pattern)
    if path.is_dir():
        raise UsageError(
            f"'{pattern}' is a folder", hint=f"give the files in it: '{path / '*.tflite'}'"
        )
    if path.is_file() or not glob.has_magic(pattern):
        return [str(path)]
    found = sorted(str(Path(p)) for p in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [p for p in found if Path(p).is_file()]
    if not files:
        raise UsageError(f"'{pattern}' matches no file", hint="check the folder and the pattern")
    return files


def _filled(template: Any, model: str, seed: int) -> Any:
    """Fill in a path; other values, such as arrays, are the same for all models."""
    if not isinstance(template, (str, Path)):
        return template
    path = Path(model)
    names = {"stem": path.stem, "name": path.name, "dir": str(path.parent), "seed": str(seed)}
    return _fill(str(template), names)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Fill in the placeholders of a template.

    Raises:
        UsageError: There is no such placeholder.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise UsageError(
                f"invalid placeholder {found[0]} in '{template}'", hint=f"use one of {known}"
            )
        return values[found[1]]

    return _PLACEHOLDER.sub(value, template)
