"""The matches of tensors, the versions and the times of a trace, for verbose reports."""

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
    """Return the facts of a run for checking it: hash, versions and times."""
    spent = ", ".join(f"{name.removesuffix('_s')} {s:.1f} s" for name, s in run.timing.items())
    facts = [
        ("sha256", run.model_sha256),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("time", spent),
    ]
    return tuple((name, text) for name, text in facts if text)


def matching_section(evidence: Evidence) -> tuple[Section, ...]:
    """Return the counterpart of each operator output, or the reason why it has none."""
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
