"""Read a user's rules about operators: limits of figures, findings and the verdict."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from tfldbg.diagnose.rules import CATALOG
from tfldbg.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIVERGED = "diverged"
"""The rule for tfldbg's own verdict."""
_CODE = re.compile(r"TFL\d{3}", re.IGNORECASE)
"""The form of a rule for the findings of one code."""

UNITS: Mapping[str, str] = {
    "max_lsb": "lsb",
    "mean_lsb": "lsb",
    "rmse_lsb": "lsb",
    "max_abs": "",
    "mean_abs": "",
    "rmse": "",
    "sqnr_db": "db",
    "cosine": "",
}
"""The figures of a `TensorStats` that a rule may limit, and their units; none for real units."""
SMALL_IS_WORSE = frozenset({"sqnr_db", "cosine"})
_SIDES = ("local", "accumulated")
_SHORT = {"local": "local.max_lsb", "accumulated": "accumulated.max_lsb"}
_RULE = re.compile(r"(?:(?P<scope>.+):)?(?P<metric>[^:<>=]*)(?P<sign><=|>=|<|>)(?P<limit>[^:<>=]*)")
_LIMIT = re.compile(r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<unit>[a-z]*)", re.I)
_SIGN = re.compile(r"[<>=!≤≥]+")
_SIGNS = ("<=", ">=", "<", ">")
_ANY = "any"
_EXAMPLE = "for example --fail-on 'sqnr>=30db' or --fail-on 'CONV_2D:local<=1lsb'"
_FIGURES = ", ".join(name for name in UNITS)
_METRICS = (
    f"a metric is local or accumulated, a dot and one of {_FIGURES}; without local or accumulated "
    "it is of the accumulated error; for short: local, accumulated (both max_lsb), sqnr; rules "
    "cannot limit your own metrics, only tfldbg's figures"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: a limit, the verdict, or the code of a finding."""

    text: str
    """The rule as it was written."""
    metric: str
    """The metric, such as ``local.max_lsb``, or ``diverged``, or the code of a finding."""
    scope: str | None = None
    """An operator kind or a pattern of tensor names; None for every operator."""
    limit: float | None = None
    """The limit, None to allow everything."""
    equal: bool = True
    """True if the limit itself is allowed."""

    @property
    def limits(self) -> bool:
        """True if it limits a figure, and is neither ``diverged`` nor a code."""
        return self.metric != DIVERGED and _CODE.fullmatch(self.metric) is None

    @property
    def side(self) -> str:
        """The error that it limits: ``local`` or ``accumulated``."""
        return self.metric.partition(".")[0]

    @property
    def figure(self) -> str:
        """The field of `TensorStats` that it limits."""
        return figure_of(self.metric)

    @property
    def small_is_worse(self) -> bool:
        """True if the limit is the smallest value allowed, not the largest."""
        return self.figure in SMALL_IS_WORSE

    def allows(self, value: float) -> bool:
        """Return whether a figure is within the limit."""
        if self.limit is None or value == self.limit:
            return self.limit is None or self.equal
        return value > self.limit if self.small_is_worse else value < self.limit


def read_rules(
    rules: Sequence[str] | str, tolerances: Path | str | None = None
) -> tuple[Rule, ...]:
    """Read the rules of a file, then others, which take precedence.

    Args:
        rules: The rules, as for ``--fail-on``, or a single rule.
        tolerances: The path of a TOML file.

    Raises:
        UsageError: A rule is invalid, or the file cannot be read.
    """
    found = [] if tolerances is None else _read_file(tolerances)
    given = (rules,) if isinstance(rules, str) else rules
    return (*found, *(parse_rule(text) for text in given))


def parse_rule(text: str) -> Rule:
    """Read one rule: ``diverged``, the code of a finding, or a metric and its limit.

    A metric may have a scope before it.  The worse side of each limit is known, so that
    ``local<=1lsb`` (must hold) and ``local>1lsb`` (fails) are the same rule.

    Raises:
        UsageError: It is not a rule.
    """
    if not isinstance(text, str):
        raise UsageError(f"the rule {text!r} is not a string", hint=_EXAMPLE)
    plain = text.strip()
    if plain.lower() == DIVERGED:
        return Rule(text, DIVERGED)
    if _CODE.fullmatch(plain):
        return _of_code(text, plain.upper())
    parts = _RULE.fullmatch(plain)
    if parts is None or not parts["metric"].strip() or not parts["limit"].strip():
        said, hint = _what_is_wrong(plain)
        raise UsageError(f"the rule '{text}' {said}", hint=hint)
    where = f"the rule '{text}'"
    metric = _metric(parts["metric"].strip(), where)
    limit = _limit(parts["limit"].strip(), metric, where)
    scope = None if parts["scope"] in (None, "*") else parts["scope"].strip()
    return Rule(text, metric, scope, limit, parts["sign"] in _ALLOWING[figure_of(metric)])


def _of_code(text: str, code: str) -> Rule:
    if code not in CATALOG:
        raise UsageError(
            f"the rule '{text}': there is no finding of this code", hint="tfldbg explain lists them"
        )
    return Rule(text, code)


def _what_is_wrong(plain: str) -> tuple[str, str]:
    """Return the reason why a text is not a rule, and what to write instead."""
    tail = plain.rpartition(":")[2].strip()
    signs = _SIGN.findall(tail)
    if len(signs) > 1 and "," in tail:
        return "holds several rules", "give one rule per option: --fail-on RULE --fail-on RULE"
    if len(signs) > 1:
        return "has more than one limit", f"give one limit per rule, {_EXAMPLE}"
    if signs and signs[0] not in _SIGNS:
        return f"has the sign '{signs[0]}'", f"the signs are {', '.join(_SIGNS)}; {_EXAMPLE}"
    if tail.lower() == DIVERGED:
        return "gives the verdict a scope", f"{DIVERGED} takes no scope: --fail-on {DIVERGED}"
    if signs and tail.startswith(signs[0]) and not tail.endswith(signs[0]):
        return "has no metric", f"{_EXAMPLE}; the quotes keep < and > from the shell"
    if signs and not tail.endswith(signs[0]) and plain.startswith(":"):
        return "has an empty scope", "leave the colon out to limit every operator"
    return "has no limit", f"{_EXAMPLE}; the quotes keep < and > from the shell"


_ALLOWING = {name: {">=", "<"} if name in SMALL_IS_WORSE else {"<=", ">"} for name in UNITS}
"""The signs, of what must hold and of what fails, that allow the limit itself."""


def figure_of(metric: str) -> str:
    """Return the field of `TensorStats` in a metric: ``max_lsb`` of ``local.max_lsb``."""
    return metric.partition(".")[2]


def _metric(name: str, where: str) -> str:
    """Return a metric's full name; ``where`` begins the error message."""
    plain = name.lower()
    full = _SHORT.get(plain, plain)
    side, dot, figure = full.rpartition(".")
    figure = "sqnr_db" if figure == "sqnr" else figure
    side = side if dot else "accumulated"
    if side not in _SIDES or figure not in UNITS:
        near = get_close_matches(plain, (*_SHORT, *UNITS, "sqnr"), 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{where}: there is no metric '{name}'", hint=meant + _METRICS)
    return f"{side}.{figure}"


def _limit(limit: str, metric: str, where: str) -> float | None:
    """Return a limit, None for ``any``; ``where`` begins the error message."""
    if limit.lower() == _ANY:
        return None
    parts = _LIMIT.fullmatch(limit)
    unit = UNITS[figure_of(metric)]
    if parts is None or not math.isfinite(float(parts["number"])):
        raise UsageError(
            f"{where}: '{limit}' is not a limit",
            hint=f"give a number{f' of {unit}' if unit else ''}, or any to allow everything",
        )
    if parts["unit"].lower() not in ("", unit):
        raise UsageError(
            f"{where}: {metric} is not measured in '{parts['unit']}'",
            hint=f"its unit is {unit}" if unit else "it has no unit: give the number alone",
        )
    number = float(parts["number"])
    if number < 0 and figure_of(metric) not in SMALL_IS_WORSE:
        raise UsageError(
            f"{where}: {metric} is never negative, and its limit is {limit}",
            hint="give a number of at least 0",
        )
    return number


def _read_file(given: Path | str) -> list[Rule]:
    path = _regular(given)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"cannot read the tolerances '{path}': {error}", hint="docs/ci.md shows such a file"
        ) from error
    rules = list(_rules_of(plain, path))
    if not rules:
        raise UsageError(f"the tolerances '{path}' hold no rules", hint="docs/ci.md shows some")
    return rules


def _regular(given: Path | str) -> Path:
    """Return the path of a regular file, since reading a device, for example, may not end."""
    hint = "name a TOML file with --tolerances"
    if not isinstance(given, (str, PathLike)) or not str(given).strip():
        raise UsageError(f"the path of the tolerances is {given!r}", hint=hint)
    path = Path(given)
    try:
        regular, there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the tolerances '{path}': {error}", hint=hint) from error
    if not there:
        raise UsageError(f"the tolerances '{path}' do not exist", hint=hint)
    if not regular:
        raise UsageError(f"the tolerances '{path}' are not a regular file", hint=hint)
    return path


def _rules_of(plain: Mapping[str, Any], path: Path) -> Iterator[Rule]:
    for scope, content in plain.items():
        if scope.lower() == DIVERGED and isinstance(content, bool):
            if content:
                yield Rule(DIVERGED, DIVERGED)
        elif isinstance(content, Mapping):
            for name, value in _flat(content):
                yield _rule_of(scope, name, value, path)
        else:
            raise UsageError(
                f"the tolerances '{path}': '{scope} = {content}' is not a rule",
                hint='write limits below ["*"] for every operator, below [CONV_2D] for a kind or '
                'below ["block2/*"] for tensors; diverged = true comes above them',
            )


def _rule_of(scope: str, name: str, value: Any, path: Path) -> Rule:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(
            f"the tolerances '{path}': '{name} = {value}' below [{scope}] is not a limit",
            hint='give a number, or "any" to allow everything',
        )
    sign = "<="
    where = f"the tolerances '{path}': '{name}' below [{scope}]"
    metric = _metric(name, where)
    if figure_of(metric) in SMALL_IS_WORSE:
        sign = ">="
    front = "" if scope == "*" else f"{scope}:"
    text = f"{front}{metric}{sign}{value}"
    limit = _limit(str(value).strip(), metric, where)
    return Rule(text, metric, None if scope == "*" else scope, limit)


def _flat(content: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their keys joined by dots."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{key}.")
        else:
            yield front + key, value
