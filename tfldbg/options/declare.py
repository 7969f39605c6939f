"""Declare options, and check their values against the declaration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from tfldbg.errors import UsageError

_SPELLING, _NESTED = "spelling", "nested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """The spelling of an option on the command line."""

    help: str | None = None
    """The help text, None for an option of the Python API only."""
    python: bool = True
    """True if the Python API also has the option."""
    metavar: str | None = None
    names: tuple[str, ...] = ()
    """The flags, long before short; the field's name with dashes if empty."""
    word: type = str
    """The type of its value on the command line; bool for a flag without a value."""
    many: bool = False
    """True if the option can be repeated."""
    read: Callable[[Any], Any] | None = None
    """The function that converts the written value to the field's value; None for no conversion."""
    shown: str | None = None
    """The default as shown by ``--help``."""
    choices: Sequence[str] = ()
    """The values for the completion of shells."""
    least: float | None = None
    """The smallest value that is valid."""
    above: float | None = None
    """The largest value that is too small to be valid."""


def option(
    default: Any = None, *, factory: Callable[[], Any] | None = None, **spelling: Any
) -> Any:
    """Declare a field of a group as an option.

    Args:
        default: The value without the option.
        factory: A function that makes the default, if it cannot be shared.
        spelling: The fields of `Spelling`; ``word`` defaults to the type of a numeric default.
    """
    if isinstance(default, (bool, int, float)):
        spelling.setdefault("word", type(default))
    metadata = {_SPELLING: Spelling(**spelling)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def nested(group: Callable[[], Any]) -> Any:
    """Declare a field that holds another group, whose options the commands also take."""
    return field(default_factory=group, metadata={_NESTED: group})


def spellings(group: Any) -> Iterator[tuple[str, Any, Spelling]]:
    """Yield the name, default and spelling of each option of a group, without nested groups."""
    for one in fields(group):
        if _SPELLING in one.metadata:
            factory = one.default_factory
            default = one.default if factory is MISSING else factory()
            yield one.name, default, one.metadata[_SPELLING]


def inner(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and class of each nested group of a group."""
    for one in fields(group):
        if _NESTED in one.metadata:
            yield one.name, one.metadata[_NESTED]


def flag(name: str, spelling: Spelling) -> str:
    """Return the long flag of an option, or its name in Python if it has none."""
    if spelling.help is None:
        return name
    return spelling.names[0] if spelling.names else "--" + name.replace("_", "-")


def check(group: Any) -> None:
    """Check the numbers of a group against their declarations.

    Raises:
        UsageError: A value is not a number of its type, not finite, or too small.
    """
    for name, default, spelling in spellings(group):
        value = getattr(group, name)
        unset = value is None and default is None
        if unset or spelling.word not in (int, float):
            continue
        wanted = _wrong(value, spelling)
        if wanted is not None:
            shown = flag(name, spelling)
            hint = f"leave {shown} out for the default"
            if default is not None:  # it is the same in all commands
                hint = f"the default is {spelling.shown or default}"
            raise UsageError(f"invalid value {value!r} for {shown}: must be {wanted}", hint=hint)


def _wrong(value: Any, spelling: Spelling) -> str | None:
    """Return the requirement that a number breaks, None if it is valid."""
    kind, said = (Integral, "a whole number") if spelling.word is int else (Real, "a number")
    if not isinstance(value, kind) or isinstance(value, bool):
        return said
    if not math.isfinite(value):
        return "finite"
    if spelling.least is not None and value < spelling.least:
        return f"at least {spelling.least:g}"
    if spelling.above is not None and value <= spelling.above:
        return f"above {spelling.above:g}"
    return None


def pairs(texts: Sequence[str], wanted: str, example: str) -> Mapping[str, str]:
    """Split ``KEY=VALUE`` texts.

    Args:
        texts: The texts.
        wanted: The option and its form, for messages, such as ``--input NAME=KEY``.
        example: An example of the value.

    Raises:
        UsageError: A text has another form.
    """
    mapping = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            flag_, form = wanted.split()
            raise UsageError(
                f"invalid value '{text}' for {flag_}: must be of the form {form}",
                hint=f"for example {flag_} {example}",
            )
        mapping[name] = value
    return mapping
