"""How an option is declared, and the check that its value fits the declaration."""

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
    """How an option is written on the command line."""

    help: str | None = None
    """None for an option of the Python API alone."""
    python: bool = True
    """Whether the Python API has the option, too."""
    metavar: str | None = None
    names: tuple[str, ...] = ()
    """The flags, long before short; the field's name with dashes if empty."""
    word: type = str
    """The type of its value on the command line; bool for a flag without a value."""
    many: bool = False
    """Whether the option can be repeated."""
    read: Callable[[Any], Any] | None = None
    """Makes the field's value of what was written; None takes it as it is."""
    shown: str | None = None
    """The default as ``--help`` shows it."""
    choices: Sequence[str] = ()
    """The values that shells complete."""
    least: float | None = None
    """The smallest value that is valid."""


def option(
    default: Any = None, *, factory: Callable[[], Any] | None = None, **spelling: Any
) -> Any:
    """Declare a field of a group as an option.

    Args:
        default: The value without the option.
        factory: Makes the default where it cannot be shared.
        spelling: The fields of `Spelling`; ``word`` is taken from the default where it has one.
    """
    if isinstance(default, (bool, int, float)):
        spelling.setdefault("word", type(default))
    metadata = {_SPELLING: Spelling(**spelling)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def nested(group: Callable[[], Any]) -> Any:
    """Declare a field that holds another group, whose options commands take too."""
    return field(default_factory=group, metadata={_NESTED: group})


def spellings(group: Any) -> Iterator[tuple[str, Any, Spelling]]:
    """Yield name, default and spelling of every option of a group itself."""
    for one in fields(group):
        if _SPELLING in one.metadata:
            factory = one.default_factory
            default = one.default if factory is MISSING else factory()
            yield one.name, default, one.metadata[_SPELLING]


def inner(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and class of every group that a group holds."""
    for one in fields(group):
        if _NESTED in one.metadata:
            yield one.name, one.metadata[_NESTED]


def flag(name: str, spelling: Spelling) -> str:
    """Return the long flag of an option; its name in Python where it has none."""
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
            usual = spelling.shown or default
            raise UsageError(
                f"invalid value {value!r} for {shown}: must be {wanted}",
                hint=f"the default is {usual}",
            )


def _wrong(value: Any, spelling: Spelling) -> str | None:
    """Return what a number must be where it is something else."""
    kind, said = (Integral, "a whole number") if spelling.word is int else (Real, "a number")
    if not isinstance(value, kind) or isinstance(value, bool):
        return said
    if not math.isfinite(value):
        return "finite"
    if spelling.least is not None and value < spelling.least:
        return f"at least {spelling.least:g}"
    return None


def pairs(texts: Sequence[str], wanted: str, example: str) -> Mapping[str, str]:
    """Split ``KEY=VALUE`` texts.

    Args:
        texts: What was written.
        wanted: The option and its form, for messages, such as ``--input NAME=KEY``.
        example: An example of it.

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
