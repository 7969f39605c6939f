"""Options: declared once, checked against their declaration, spelled as declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests import api_source
from tfldbg.cli.options import grouped, some
from tfldbg.errors import UsageError
from tfldbg.options.against import Against
from tfldbg.options.convert import Convert, Target
from tfldbg.options.declare import check, flag, inner, nested, option, spellings
from tfldbg.options.judge import Judge, Thresholds
from tfldbg.options.measure import Measure
from tfldbg.options.reports import Reports, View
from tfldbg.options.run_on import RunOn

GROUPS: tuple[Any, ...] = (Against, RunOn, Measure, Judge, Reports, View)


@dataclass(frozen=True, kw_only=True)
class Inner:
    PANEL = "Inner"

    depth: float = option(default=0.5, least=0, help="How deep.")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    PANEL = "Outer"

    name: str | None = option(metavar="NAME", help="A name.")
    count: int | None = option(word=int, least=1, shown="64", help="How many.")
    many: tuple[str, ...] = option(
        default=(), names=("--one",), many=True, read=tuple, help="Some."
    )
    kept: bool = option(default=True, names=("--drop",), read=lambda off: not off, help="Drop.")
    silent: int = option(default=3)
    inner: Inner = nested(Inner)

    def __post_init__(self) -> None:
        check(self)


def _run(command: Any, *words: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def _seen(*words: str, wanted: Any = None) -> Outer:
    seen = []
    hint: Any = Outer if wanted is None else Annotated[Outer, wanted]

    def command(outer: Outer) -> None:
        seen.append(outer)

    command.__annotations__ = {"outer": hint, "return": None}
    assert _run(grouped(command), *words).exit_code == 0
    return seen[0]


def test_a_command_is_called_with_its_group() -> None:
    assert _seen() == Outer()
    words = ("--name", "x", "--count", "2", "--one", "a", "--one", "b", "--drop", "--depth", "0.25")
    assert _seen(*words) == Outer(
        name="x", count=2, many=("a", "b"), kept=False, inner=Inner(depth=0.25)
    )


def test_a_command_takes_some_options_and_spells_them_as_it_likes() -> None:
    wanted = some("name", "count", count={"names": ("--number",)})
    assert _seen("--number", "4", wanted=wanted) == Outer(count=4)


def test_an_argument_may_have_the_name_of_an_option_that_is_not_taken() -> None:
    seen = []

    def command(name: str, outer: Annotated[Outer, some("count")]) -> None:
        seen.append((name, outer))

    command.__annotations__["outer"] = Annotated[Outer, some("count")]
    assert _run(grouped(command), "x", "--count", "2").exit_code == 0
    assert seen == [("x", Outer(count=2))]


@given(st.one_of(st.integers(-5, 5), st.floats(), st.text(max_size=2), st.booleans()))
def test_a_number_fits_its_declaration_or_is_refused(value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and value >= 1:
        assert Outer(count=value).count == value
        return
    wanted = "at least 1" if whole else "a whole number"
    with pytest.raises(UsageError, match=f"for --count: must be {wanted}") as caught:
        Outer(count=value)
    assert caught.value.hint == "leave --count out for the default"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, "x", None, True])
def test_a_float_fits_its_declaration_or_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="for --depth: must be"):
        Inner(depth=value)


@pytest.mark.parametrize("group", [RunOn, Convert])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_above_zero(group: Any, value: float) -> None:
    wanted = "above 0" if value <= 0 else "finite"
    with pytest.raises(UsageError, match=f"for --timeout: must be {wanted}"):
        group(timeout=value)


@pytest.mark.parametrize("scale", [(0, float("inf")), (float("nan"), 1), (1, 1), (2, 1)])
def test_a_scale_is_finite_and_ascends(scale: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="LOW and HIGH must be finite, and LOW less than HIGH"):
        RunOn(scale=scale)


def _flags(group: Any) -> Iterator[str]:
    for name, _, spelling in spellings(group):
        if spelling.help is not None:
            yield from spelling.names or (flag(name, spelling),)
    for _, other in inner(group):
        yield from _flags(other)


def test_every_option_of_trace_is_declared_once() -> None:
    counts = Counter(flag for group in GROUPS for flag in _flags(group))
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("group", [*GROUPS, Thresholds, Convert, Target])
def test_every_field_of_a_group_is_an_option_with_a_docstring(group: Any) -> None:
    declared = {name for name, _, _ in spellings(group)} | {name for name, _ in inner(group)}
    assert declared == {field.name for field in fields(group)}
    python = {name for name, _, spelling in spellings(group) if spelling.python}
    assert python <= set(api_source.docstrings(group))
