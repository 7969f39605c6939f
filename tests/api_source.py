"""The text of `tfldbg/api.py`, made from the groups of `tfldbg.options`."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from tfldbg.cli.options import Some, some, without
from tfldbg.options.against import Against
from tfldbg.options.convert import Convert
from tfldbg.options.declare import inner, spellings
from tfldbg.options.judge import Judge
from tfldbg.options.measure import Measure
from tfldbg.options.reports import Reports
from tfldbg.options.run_on import RunOn

_HEAD = '''"""The functions of the Python API, with every option as a keyword.

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
'''


@dataclass(frozen=True)
class Function:
    """A function of the API."""

    name: str
    arguments: dict[str, str]
    """Its positional arguments and their types."""
    groups: dict[Any, Some]
    """The groups that it takes, and which of their options."""
    returns: str
    summary: str
    described: dict[str, str]
    """The positional arguments in words."""
    raises: str
    body: str
    """The call, in which ``{Group}`` is replaced by the group made of its keywords."""


TRACE = Function(
    "trace",
    {"model": "ModelSource"},
    {Against: some(), RunOn: some(), Measure: some(), Judge: some(), Reports: some()},
    "Trace",
    """Find the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.""",
    {"model": "The path or bytes of the .tflite file."},
    "A file, the data or the options are invalid; the message tells the reason.",
    """request = session.Request(
        model, {Against}, {RunOn}, {Measure}, {Judge}, dump, dump_exact
    )
    return session.trace(request, progress)""",
)
RECORD = Function(
    "record",
    {"model": "ModelSource", "path": "Path | str"},
    {RunOn: without("workers", "scheduler")},
    "Run",
    "Record every tensor of a .tflite file and compare nothing.",
    {"model": "The path or bytes of the .tflite file.", "path": "The HDF5 file to write."},
    "A file, the data or the options are invalid; the message tells the reason.",
    "return session.record(model, path, run_on={RunOn}, progress=progress)",
)
CONVERT = Function(
    "convert",
    {"keras": "Any", "output": "Path | str"},
    {
        Convert: some(),
        RunOn: some("data", "scale", "inputs", "samples", "seed", "signature"),
        Against: some("unsafe"),
    },
    "Converted",
    "Convert a Keras model to a .tflite file, which is written completely or not at all.",
    {
        "keras": "The path of a ``.h5``, ``.keras`` or SavedModel, or a live model.",
        "output": "The file to write.",
    },
    "A file, the data or the options are invalid, or the converter refuses the model or crashes.",
    "return session.convert(\n"
    "        keras, output, {Convert}, {RunOn}, unsafe=unsafe, progress=progress\n    )",
)


def text() -> str:
    """Return the file."""
    parts = [_HEAD, *map(_function, (TRACE, RECORD, CONVERT))]
    made = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--line-length", "100", "-"],
        input="\n\n".join(parts),
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


def _function(function: Function) -> str:
    signature = [f"{name}: {kind}" for name, kind in function.arguments.items()] + ["*"]
    described = dict(function.described)
    calls = {}
    for group, wanted in function.groups.items():
        words = []
        for name, kind, default, said in _options(group, wanted):
            optional = default == _NESTED
            signature.append(f"{name}: {kind}{' | None = None' if optional else f' = {default}'}")
            described[name] = said
            words.append(f"{name}={name}" + _fallback(kind, default))
        calls[group.__name__] = f"{group.__name__}({', '.join(words)})"
    signature.append("progress: Progress | None = None")
    described["progress"] = "Receives the progress."
    body = function.body
    for name, call in calls.items():
        body = body.replace("{" + name + "}", call)
    arguments = "\n".join(_described(name, said) for name, said in described.items())
    return (
        f"def {function.name}({', '.join(signature)}) -> {function.returns}:\n"
        f'    """{function.summary}\n\n    Args:\n{arguments}\n\n    Raises:\n'
        f"{_described('TfldbgError', function.raises)}\n"
        f'    """\n    {body}\n'
    )


_NESTED = "nested"


def _fallback(kind: str, default: str) -> str:
    if default == _NESTED:
        return f" or {kind}()"
    return " or {}" if kind.startswith("Mapping[str, str]") and default == "None" else ""


def _options(group: Any, wanted: Some) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and docstring of every option of a group that Python has."""
    declared = {name: (default, spelling) for name, default, spelling in spellings(group)}
    nested, said = dict(inner(group)), docstrings(group)
    for field in fields(group):
        if field.name not in wanted:
            continue
        kind = str(field.type)
        if field.name in nested:
            yield field.name, kind, _NESTED, said[field.name]
        elif declared[field.name][1].python:
            default = declared[field.name][0]
            if default == {}:
                kind, default = f"{kind} | None", None
            shown = f'"{default}"' if isinstance(default, str) else repr(default)
            yield field.name, kind, shown, said[field.name]


def docstrings(group: Any) -> dict[str, str]:
    """Return the docstrings of the fields of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(group))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def _described(name: str, said: str) -> str:
    return textwrap.fill(
        f"{name}: {said}",
        width=100,
        initial_indent=" " * 8,
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
