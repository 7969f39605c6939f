"""The parts of a rule: its explanation, its signs, and the function that looks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.fitting import ENOUGH
from tfldbg.diagnose.model import Divergence, Finding, Severity, Signal, Subject
from tfldbg.diagnose.words import plural
from tfldbg.options.judge import Thresholds

if TYPE_CHECKING:
    from tfldbg.compare.ranges.fit import Misfit
    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.graph.model import Graph, Operator, Subgraph
    from tfldbg.options.judge import Thresholds


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of the findings of one code, for ``tfldbg explain`` and ``docs/findings``."""

    code: str
    """The code ``TFL0xx``, which never changes its meaning."""
    title: str
    severity: Severity
    meaning: str
    """The cause and its effects."""
    evidence: str
    """The measurements that show the cause."""
    suggestion: str
    """The suggestion, as an imperative."""
    sources: tuple[str, ...] = ()
    """Descriptions of the cause: specification, kernel, public thread."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of a cause, with its place."""

    op: int | None
    """The operator to look at, None for the whole file."""
    tensor: str | None
    predicate: str
    """The problem, with the figure; a whole sentence if there is no subject."""
    evidence: dict[str, object]
    suggestion: str | None = None
    """The suggestion, if it is not that of the explanation."""
    subject: Subject | None = None
    """The operator that the predicate is about."""


@dataclass(frozen=True, slots=True, eq=False)
class FileRule:
    """A rule for a cause that the file alone shows."""

    about: Explanation
    find: Callable[[Graph, Subgraph], Iterable[Sign]]
    explains: frozenset[Signal] = frozenset()
    """The kinds of divergence that it explains, of the same operator."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A trace with its divergences, as the rules see it."""

    evidence: Evidence
    divergences: tuple[Divergence, ...]
    thresholds: Thresholds
    downstream: frozenset[int]
    """The tensors downstream of an origin (`tfldbg.diagnose.downstream`)."""
    misfits: Mapping[int, Misfit] = field(default_factory=dict)
    """The ranges that fit other values than the tensor's, by tensor."""

    def signals(self, op: int) -> frozenset[Signal]:
        """Return the signals of an operator's divergences."""
        return frozenset(d.signal for d in self.divergences if d.op == op)

    def diverged(self, *signals: Signal) -> list[OpEvidence]:
        """Return the operator outputs that diverge by one of the signals, in execution order."""
        found = {d.tensor_index for d in self.divergences if d.signal in signals}
        return [o for o in self.evidence.ops if o.tensor in found]

    def producers(self, op: OpEvidence) -> list[OpEvidence]:
        """Return the operators that write the inputs of an operator."""
        return [o for o in self.evidence.ops if o.tensor in op.reads]

    @property
    def checked_weights(self) -> list[OpEvidence]:
        """The operators whose weights were compared with the reference's."""
        return [o for o in self.evidence.ops if o.weights is not None]

    @property
    def other_weights(self) -> list[OpEvidence]:
        """The operators whose weights differ from the reference's."""
        return [o for o in self.checked_weights if o.weights is not None and o.weights.differ]

    def is_origin_or_downstream(self, op: OpEvidence) -> bool:
        """Return whether an operator is an origin or downstream of one."""
        return op.tensor in self.downstream or any(d.op == op.op for d in self.divergences)

    def same_under_all_kernels(self, op: OpEvidence) -> bool:
        """Return whether an operator gives the same result under all other kernels."""
        trials = [t for t in self.evidence.trials if t.op == op.op and t.kind == "runtime"]
        return bool(trials) and all(t.as_traced for t in trials)

    def right_elsewhere(self, op: OpEvidence) -> tuple[str, ...]:
        """Return the kernels under which an operator, run alone, agrees with its reference."""
        trials = [t for t in self.evidence.trials if t.op == op.op and t.kind == "runtime"]
        return tuple(t.value for t in trials if t.agrees)

    def settles(self, op: OpEvidence) -> bool:
        """Return whether the user's data gives an operator's output enough values for a range."""
        real = self.evidence.run.has_real_data
        return real and op.usage is not None and op.usage.total >= ENOUGH


@dataclass(frozen=True, slots=True, eq=False)
class TraceRule:
    """A rule for a cause that a trace shows."""

    about: Explanation
    find: Callable[[Judged], Iterable[Sign]]
    explains: frozenset[Signal] = frozenset()
    """The kinds of divergence that it explains, of the same operator, or of any operator if the
    finding names none."""


def at(op: OpEvidence, predicate: str, suggestion: str | None = None, **evidence: object) -> Sign:
    """Return a sign at a traced operator, which the predicate is about."""
    return Sign(op.op, op.name, predicate, evidence, suggestion, subject_of(op))


def subject_of(op: OpEvidence) -> Subject:
    """Return a traced operator as the subject of a sentence."""
    return Subject(op.op, op.kind, op.name)


def at_operator(subgraph: Subgraph, op: Operator, predicate: str, **evidence: object) -> Sign:
    """Return a sign at an operator of the file, which the predicate is about."""
    name = next((subgraph.tensors[i].name for i in op.outputs if i >= 0), "")
    subject = Subject(op.index, op.kind, name)
    return Sign(op.index, name, predicate, evidence, subject=subject)


def to_finding(about: Explanation, sign: Sign) -> Finding:
    """Return a sign as a finding."""
    return Finding(
        code=about.code,
        severity=about.severity,
        op=sign.op,
        tensor=sign.tensor,
        predicate=sign.predicate,
        evidence=sign.evidence,
        suggestion=sign.suggestion or about.suggestion,
        subject=sign.subject,
    )


def at_first(signs: Sequence[Sign]) -> Iterator[Sign]:
    """Yield one sign at the first of several operators, which lists the others."""
    if len(signs) < 2:
        yield from signs
        return
    first, ops = signs[0], [s.op for s in signs if s.op is not None]
    others = listed(ops[1:])
    likewise = f"likewise {plural(len(ops) - 1, 'operator')} after it: {others}"
    predicate = f"{first.predicate}; {likewise}"
    yield replace(first, predicate=predicate, evidence={**first.evidence, "ops": ops})


def listed(numbers: Sequence[int], most: int = 8) -> str:
    """Return operator numbers in words, only the first few of many."""
    shown = ", ".join(str(n) for n in numbers[:most])
    return shown + (", ..." if len(numbers) > most else "")
