"""The gate: a check of all operators against the user's rules, which decides the exit code.

The verdict, which is tfldbg's own, does not change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tfldbg.diagnose.limits import DIVERGED, SMALL_IS_WORSE, UNITS, Rule, figure_of
from tfldbg.diagnose.words import number, short
from tfldbg.errors import UsageError

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import Body, Evidence, OpEvidence
    from tfldbg.diagnose.model import Diagnosis, Divergence, Finding

_MOST_NAMED = 12
_LOOP = "WHILE"
_NO_LSB = "tensors without a scale, as float ones, have no LSB: limit " + ", ".join(
    name for name in UNITS if UNITS[name] != "lsb"
)
_ALL, _KIND, _TENSOR = range(3)
"""The ranks of rules, from general to specific."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An operator output that breaks a rule."""

    op: int
    kind: str
    tensor: str
    tensor_index: int
    loop: int | None
    """The operator of the main subgraph (a loop, an IF or a composite) that contains it; ``op`` and
    ``tensor_index`` are then those of the subgraph that it runs.  None in the main subgraph."""
    metric: str
    """The metric, such as ``local.max_lsb``, or ``diverged``, or the code of a finding."""
    found: float | None
    """The figure, None if there is none; then ``why`` is set."""
    limit: float | None
    """The limit, None for ``diverged`` and codes."""
    rule: str
    """The rule as it was written."""
    why: str | None
    """The problem, or the reason why the figure is unknown; None if there is a figure."""
    unchecked: bool = False
    """True if it was not measured and may be right."""

    @property
    def main_op(self) -> int:
        """The operator of the main subgraph that breaks the rule or contains the one that does."""
        return self.op if self.loop is None else self.loop

    @property
    def reason(self) -> str | None:
        """The reason why there is no figure, marked if the operator was not checked."""
        return f"unchecked: {self.why}" if self.unchecked else self.why

    @property
    def message(self) -> str:
        """The broken rule in words, without the operator's name."""
        if self.found is None:
            return self.reason or "unknown"
        side = "below" if figure_of(self.metric) in SMALL_IS_WORSE else "beyond"
        at = "at" if self.found == self.limit else side
        return f"{self.metric} is {number(self.found)}, {at} the limit of {number(self.limit)}"


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome of the rules."""

    rules: tuple[str, ...]
    """The rules as they were written, those of a file first."""
    broken: tuple[Broken, ...]

    @property
    def passed(self) -> bool:
        """True if no operator breaks a rule."""
        return not self.broken


@dataclass(frozen=True, slots=True)
class _OperatorOutput:
    """An operator output to which rules may apply."""

    op: OpEvidence
    loop: int | None
    elsewhere: frozenset[str]
    """The errors, local or accumulated, that are measured with a later operator or in its body."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """The reason why an operator output that should have a figure has none."""

    why: str
    unchecked: bool = True


def judge(evidence: Evidence, diagnosis: Diagnosis, rules: Sequence[Rule]) -> Gate:
    """Check every operator against the rules.

    For one operator and metric the most specific rule counts: one for a tensor before one for a
    kind, before one for all; of equally specific rules the last.  An operator whose figure is
    unknown breaks the rules that apply to it, since an error that was not measured is not a
    success.  For the same reason a subgraph that could not be traced breaks the rules about local
    errors that match nothing else.

    Raises:
        UsageError: A rule matches no operator, or no operator that has its figure.
    """
    subjects = _subjects(evidence)
    limits = [rule for rule in rules if rule.limits]
    kinds = {s.op.kind for s in subjects}
    broken = [_differs(d, r) for r in _verdicts(rules) for d in diagnosis.divergences]
    coded = {rule.metric: rule for rule in rules if not rule.limits and rule.metric != DIVERGED}
    broken += [_found(f, coded[f.code], evidence) for f in diagnosis.findings if f.code in coded]
    unseen = {body.op: body for body in evidence.bodies if body.evidence is None}
    blind = [rule for rule in limits if unseen and _may_be_inside(rule, subjects, kinds)]
    for rule in (r for r in blind if r.limit is not None):
        broken += [_unseen(body, rule, evidence) for body in unseen.values()]
    limits = [rule for rule in limits if rule not in blind]
    check_scopes(limits, ((s.op.kind, s.op.name) for s in subjects))
    for metric in dict.fromkeys(rule.metric for rule in limits):
        same = [rule for rule in limits if rule.metric == metric]
        matching = [[r for r in same if _matches(r, s.op.kind, s.op.name, kinds)] for s in subjects]
        figures = [
            _figure(subject, found[0]) if found else None
            for subject, found in zip(subjects, matching, strict=True)
        ]
        _check_figures(same, matching, subjects, figures)
        for subject, found, figure in zip(subjects, matching, figures, strict=True):
            if figure is not None:
                rule = max(found, key=lambda r: (_rank(r, kinds), same.index(r)))
                kept = not isinstance(figure, _Unknown) and rule.allows(figure)
                if rule.limit is not None and not kept:
                    broken.append(_breaks(subject, rule, figure))
    broken.sort(key=lambda b: b.main_op)
    return Gate(tuple(rule.text for rule in rules), tuple(broken))


def check_scopes(rules: Iterable[Rule], operators: Iterable[tuple[str, str]]) -> None:
    """Refuse rules that match nothing, as misspelt ones do.

    Args:
        rules: The rules.
        operators: The kind and tensor name of each operator output.

    Raises:
        UsageError: A rule matches no operator; the hint names the kinds and tensors of the file.
    """
    known = list(operators)
    kinds = {kind for kind, _ in known}
    for rule in rules:
        if not any(_matches(rule, kind, name, kinds) for kind, name in known):
            raise UsageError(
                f"the rule '{rule.text}' matches no operator of the file",
                hint=_what_there_is(rule.scope or "", kinds, {short(name) for _, name in known}),
            )


def check_steps(rules: Iterable[Rule], operators: Sequence[tuple[str, str, bool]]) -> None:
    """Refuse rules in LSB for tensors that have none.

    Args:
        rules: The rules, each of which matches an operator.
        operators: The kind, the tensor name, and whether it has one scale, of each operator output.

    Raises:
        UsageError: A rule is in LSB, and no tensor that it matches has a scale.
    """
    kinds = {kind for kind, _, _ in operators}
    for rule in (r for r in rules if UNITS[r.figure] == "lsb"):
        if not any(_matches(rule, kind, name, kinds) for kind, name, scale in operators if scale):
            raise UsageError(
                f"the rule '{rule.text}' applies to nothing: no tensor that it matches has a scale",
                hint=_NO_LSB,
            )


def _what_there_is(scope: str, kinds: set[str], tensors: set[str]) -> str:
    similar = get_close_matches(scope, sorted(kinds | tensors), n=3)
    said = f"did you mean {' or '.join(similar)}? " if similar else ""
    listed = ", ".join(sorted(kinds)[:_MOST_NAMED])
    more = ", ..." if len(kinds) > _MOST_NAMED else ""
    return (
        f"{said}its kinds are {listed}{more}; anything else is a pattern of tensor names, in which "
        "* matches any characters: tfldbg inspect lists them"
    )


def _matches(rule: Rule, kind: str, name: str, kinds: set[str]) -> bool:
    if rule.scope is None:
        return True
    if rule.scope in kinds:
        return rule.scope == kind
    parts = name.split(";")
    return any(fnmatchcase(n, rule.scope) for n in (name, short(name), *parts))


def _rank(rule: Rule, kinds: set[str]) -> int:
    if rule.scope is None:
        return _ALL
    return _KIND if rule.scope in kinds else _TENSOR


def _subjects(evidence: Evidence) -> list[_OperatorOutput]:
    """Return the operator outputs of the main subgraph and of the subgraphs that it runs."""
    found = list(_of(evidence, None))
    for body in evidence.bodies:
        found += _inside(body)
    return found


def _of(evidence: Evidence, loop: int | None) -> Iterator[_OperatorOutput]:
    covered = evidence.covered
    free = frozenset[int]().union(*(o.joint for o in evidence.ops if o.accumulated is not None))
    for op in evidence.ops:
        sides = {side for side, ops in (("local", covered), ("accumulated", free)) if op.op in ops}
        yield _OperatorOutput(op, loop, frozenset(sides))


def _inside(body: Body) -> Iterator[_OperatorOutput]:
    return _of(body.evidence, body.op) if body.evidence is not None else iter(())


def _may_be_inside(rule: Rule, subjects: Sequence[_OperatorOutput], kinds: set[str]) -> bool:
    """Return whether only operators in a subgraph that was not traced can match a rule."""
    matched = [s for s in subjects if _matches(rule, s.op.kind, s.op.name, kinds)]
    return rule.side == "local" and all(_figure(s, rule) is None for s in matched)


def _check_figures(
    rules: Sequence[Rule],
    matching: Sequence[Sequence[Rule]],
    subjects: Sequence[_OperatorOutput],
    figures: Sequence[float | _Unknown | None],
) -> None:
    for rule in rules:
        matched = [i for i, found in enumerate(matching) if rule in found]
        if all(figures[i] is None for i in matched):
            causes = dict.fromkeys(_why_none(subjects[i], rule) for i in matched)
            count = len(matched)
            article = "an" if rule.side == "accumulated" else "a"
            none = f"none of the {count} operators that it matches has {article} {rule.metric}"
            if count == 1:
                none = f"the operator that it matches has no {rule.metric}"
            raise UsageError(
                f"the rule '{rule.text}' applies to nothing: {none} of its own",
                hint="; ".join(causes),
            )


def _why_none(subject: _OperatorOutput, rule: Rule) -> str:
    """Return the reason why an operator cannot have a figure, and what to limit instead."""
    op = subject.op
    if subject.loop is not None and rule.side == "accumulated":
        return f"operators inside a subgraph have no accumulated error: limit local.{rule.figure}"
    if UNITS[rule.figure] == "lsb" and op.scale is None:
        return _NO_LSB
    if not op.activation:
        return f"the output of {op.kind} holds no values of the network"
    if rule.side == "local" and op.kind == _LOOP:
        return f"a {op.kind} has no local error, but the operators inside it have: name their kind"
    return "it is measured together with a later operator, which the rules can name instead"


def _figure(subject: _OperatorOutput, rule: Rule) -> float | _Unknown | None:
    """Return an operator's figure, the reason why it is unknown, or None if it cannot have one."""
    op = subject.op
    if subject.loop is not None and rule.side == "accumulated":
        return None  # a body is run separately, on the operator's real inputs
    stats: TensorStats | None = op.local if rule.side == "local" else op.accumulated
    if stats is None:
        steps = UNITS[rule.figure] == "lsb" and op.scale is None
        if steps or not op.activation or rule.side in subject.elsewhere:
            return None
        reasons = (op.local_reason, op.unmatched_reason)
        reason = next(filter(None, reasons if rule.side == "local" else reasons[::-1]), None)
        return _Unknown(reason or "it was not compared")
    if stats.nan or stats.infinite:
        count = stats.nan + stats.infinite
        why = f"{count} elements are NaN or infinite, and finite in the reference"
        return _Unknown(why, unchecked=False)
    if not stats.elements and stats.reference_nonfinite:
        return _Unknown("no element of the reference is finite")
    value: float | None = getattr(stats, rule.figure)
    if value is None and UNITS[rule.figure] != "lsb":
        if stats.max_abs > 0:
            return _Unknown(f"{rule.figure} is undefined: one side is all zero", unchecked=False)
        return 1.0 if rule.figure == "cosine" else math.inf
    return value


def _breaks(subject: _OperatorOutput, rule: Rule, figure: float | _Unknown) -> Broken:
    op = subject.op
    unknown = figure if isinstance(figure, _Unknown) else None
    return Broken(
        op=op.op,
        kind=op.kind,
        tensor=op.name,
        tensor_index=op.tensor,
        loop=subject.loop,
        metric=rule.metric,
        found=None if isinstance(figure, _Unknown) else figure,
        limit=rule.limit,
        rule=rule.text,
        why=unknown.why if unknown else None,
        unchecked=unknown is not None and unknown.unchecked,
    )


def _unseen(body: Body, rule: Rule, evidence: Evidence) -> Broken:
    """Return a broken rule for an operator whose subgraph was not traced and may break the rule."""
    caller = next((o for o in evidence.ops if o.op == body.op), None)
    return Broken(
        op=body.op,
        kind=body.kind,
        tensor=caller.name if caller is not None else "",
        tensor_index=caller.tensor if caller is not None else -1,
        loop=None,
        metric=rule.metric,
        found=None,
        limit=rule.limit,
        rule=rule.text,
        why="it applies to no other operator, and the operators inside this one are unknown: "
        f"{body.reason}",
        unchecked=True,
    )


def _verdicts(rules: Sequence[Rule]) -> list[Rule]:
    """Return the rule ``diverged``, once even if it was given repeatedly."""
    return [rule for rule in rules if rule.metric == DIVERGED][:1]


def _found(found: Finding, rule: Rule, evidence: Evidence) -> Broken:
    """Return the broken rule for a finding; a finding about the file is at the first operator."""
    op = next((o for o in evidence.ops if found.op in (None, o.op)), None)
    return Broken(
        op=op.op if op else 0,
        kind=op.kind if op else "",
        tensor=found.tensor or (op.name if op else ""),
        tensor_index=op.tensor if op else -1,
        loop=None,
        metric=rule.metric,
        found=None,
        limit=None,
        rule=rule.text,
        why=found.predicate,
    )


def _differs(found: Divergence, rule: Rule) -> Broken:
    return Broken(
        op=found.op,
        kind=found.kind,
        tensor=found.tensor,
        tensor_index=found.tensor_index,
        loop=None,
        metric=DIVERGED,
        found=None,
        limit=None,
        rule=rule.text,
        why=found.message,
    )
