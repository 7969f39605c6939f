"""Make the signatures for Typer from the groups of `tfldbg.options`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from tfldbg.options.declare import Spelling, flag, inner, spellings

Model = Annotated[str, typer.Argument(metavar="MODEL.tflite", help="The .tflite file.")]
Output = Annotated[str, typer.Option("--output", "-o", help="The file to write.")]
_BY_NAME = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class Some:
    """Some options of a group, and their different spelling for a command."""

    names: tuple[str, ...]
    changes: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name not in self.left_out and (not self.names or name in self.names)


def some(*names: str, **changes: Mapping[str, Any]) -> Some:
    """Choose options of a group, in the annotation of a parameter.

    For example ``Annotated[RunOn, some("data", "seed")]``.

    Args:
        names: The options; all if none is named.
        changes: The fields of `Spelling` that differ for the command, by option.
    """
    return Some(names, changes)


def without(*names: str) -> Some:
    """Choose all options of a group but some, in the annotation of a parameter."""
    return Some((), {}, names)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the groups that its parameters are annotated with.

    The command is called with the groups; its signature, which Typer reads, has the options.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[Any, Some]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = _group(hints[parameter.name])
        if group is None:
            hint = hints[parameter.name]
            parameters.append(parameter.replace(annotation=hint, kind=_BY_NAME))
        else:
            groups[parameter.name] = group
            parameters += _parameters(*group)

    @wraps(command)
    def run(**given: Any) -> None:
        made = {name: _made(*group, given) for name, group in groups.items()}
        command(**made, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _group(hint: Any) -> tuple[Any, Some] | None:
    """Return the group of a parameter and its chosen options; None for other parameters."""
    if is_dataclass(hint):
        return hint, some()
    if get_origin(hint) is Annotated and is_dataclass(get_args(hint)[0]):
        return get_args(hint)[0], get_args(hint)[1]
    return None


def _taken(group: Any, wanted: Some) -> Iterator[tuple[str, Any, Spelling]]:
    """Yield the options of a group itself that a command takes, in the spelling of the command."""
    for name, default, spelling in spellings(group):
        if spelling.help is not None and name in wanted:
            yield name, default, replace(spelling, **wanted.changes.get(name, {}))


def _parameters(group: Any, wanted: Some) -> Iterator[inspect.Parameter]:
    for name, default, spelling in _taken(group, wanted):
        yield _parameter(name, default, spelling, group.PANEL)
    for _, other in inner(group):
        yield from _parameters(other, wanted)


def _parameter(name: str, default: Any, spelling: Spelling, panel: str) -> inspect.Parameter:
    """Return an option as a parameter for Typer."""
    plain = spelling.read is None and not spelling.many and isinstance(default, spelling.word)
    start = default if plain else False if spelling.word is bool else None
    kind: Any = list[str] if spelling.many else spelling.word
    choices = list(spelling.choices)
    shown = typer.Option(
        *(spelling.names or (flag(name, spelling),)),
        metavar=spelling.metavar,
        help=spelling.help,
        show_default=spelling.shown or True,
        rich_help_panel=panel,
        autocompletion=(lambda: choices) if choices else None,
    )
    annotation: Any = Annotated[kind if start is not None else kind | None, shown]
    return inspect.Parameter(name, _BY_NAME, default=start, annotation=annotation)


def _made(group: Any, wanted: Some, given: dict[str, Any]) -> Any:
    """Make a group from the written values, which are removed from ``given``."""
    values = {name: _made(other, wanted, given) for name, other in inner(group)}
    for name, _, spelling in _taken(group, wanted):
        written = given.pop(name)
        if written is not None and not (spelling.many and not written):
            values[name] = written if spelling.read is None else spelling.read(written)
    return group(**values)
