"""From patterns and templates to the list of traces of a sweep.  Traces nothing."""

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
    """A path or a pattern (``*``, ``?``, ``[...]``, ``**``), ``{seed}`` in it or not."""
    against: Against = field(default_factory=Against)
    """Paths in it are templates: ``{stem}``, ``{name}``, ``{dir}`` of the model and ``{seed}``."""
    run_on: RunOn = field(default_factory=RunOn)
    """The path of the data is such a template."""
    seeds: tuple[int, ...] = (0,)
    runtimes: tuple[str, ...] = ("xnnpack",)


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


def plan(wanted: Sequence[Models]) -> tuple[Case, ...]:
    """Expand patterns, templates, seeds and runtimes: one case a trace, duplicates dropped.

    Raises:
        UsageError: A pattern matches no file, or an option asks for something that does not exist.
    """
    cases = {_identity(case): case for models in wanted for case in _expand(models)}
    if not cases:
        raise UsageError("there is nothing to sweep", hint="name models, or 'models/*.tflite'")
    return tuple(cases.values())


def _identity(case: Case) -> tuple[object, ...]:
    run_on = case.run_on
    return (case.model, case.reference, case.data, case.seed, run_on.runtime, run_on.samples)


def _expand(models: Models) -> list[Case]:
    against, run_on = models.against, models.run_on
    delegate = run_on.kernels.delegate  # one that is not there is an error of every row
    # What holds for the whole sweep is the caller's: each trace runs in one process.
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
            "draw the random data, and this data is given",
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
        UsageError: There is more than one.
    """
    try:
        return models.against.kind
    except UsageError as error:
        raise UsageError(f"'{models.model}': {error.message}", hint=error.hint) from error


def _models(wanted: Models) -> list[tuple[int, str]]:
    """Return seeds and files, all seeds of a file together where the file has none of its own."""
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


def _filled(template: Any, model: str, seed: int) -> Any:
    """Fill in a path; what is no path, such as an array, is the same for all models."""
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
                f"there is no {found[0]} in '{template}'", hint=f"what is filled in here: {known}"
            )
        return values[found[1]]

    return _PLACEHOLDER.sub(value, template)
