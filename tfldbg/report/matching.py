"""What a trace rests on: which tensor was compared with which, the versions, the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence, Run

_COLUMNS = (
    Column("op", right=True),
    Column("kind", fold=True),
    Column("tensor", fold=True),
    Column("reference", fold=True),
    Column("matched by"),
)


def about_run(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the facts of a run that matter when it is doubted."""
    spent = ", ".join(f"{name.removesuffix('_s')} {s:.1f} s" for name, s in run.timing.items())
    facts = [
        ("sha256", run.model_sha256),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("time", spent),
    ]
    return tuple((name, text) for name, text in facts if text)


def matching_section(evidence: Evidence) -> tuple[Section, ...]:
    """Return for each operator output its counterpart, or why it has none."""
    rows = tuple(
        (
            str(o.op),
            o.kind,
            o.name,
            o.reference or f"- ({o.unmatched_reason or 'no counterpart'})",
            o.match_rule or "-",
        )
        for o in evidence.ops
        if o.activation
    )
    return (Section("matching", _COLUMNS, rows),) if rows else ()
