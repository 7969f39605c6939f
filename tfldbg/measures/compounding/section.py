"""The section of a report about the operators that cause the final error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, op_name, short
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.measures.compounding.shares import Compounding, OpShare, Size

_MOST_ROWS = 12
_LARGE = 0.1
"""The share from which an operator is named in the title and marked in the table."""
_MOST_NAMED = 3
_STRONG = 0.5
"""The interaction, as a share of the final error, from which a note explains it."""


def compounding_section(found: Compounding | None, *, everything: bool) -> tuple[Section, ...]:
    """Return the section, empty without measurements.

    Args:
        found: The measurements, None if they were not requested.
        everything: True to show all operators, not only those with the largest shares.
    """
    if found is None:
        return ()
    quantized = any(s.own is not None and s.own.rmse_lsb is not None for s in found.shares)
    shown = set(map(id, found.shares))
    if not everything and len(found.shares) > _MOST_ROWS:
        ranked = sorted(found.shares, key=lambda s: -abs(s.share or 0.0))
        shown = set(map(id, ranked[:_MOST_ROWS]))
    notes = (*found.notes, *_together(found), *_misread(found), *_unmeasured(found))
    section = Section(
        title=f"compounding: {_sentence(found)}",
        columns=_columns("LSB" if quantized else "relative"),
        rows=(*_rows(found.shares, shown, quantized), *_sums(found)),
        lines=tuple(f"note: {note}" for note in notes),
    )
    return (section,)


def _columns(unit: str) -> tuple[Column, ...]:
    return (
        Column("op", right=True),
        Column("kind"),
        Column("tensor", fold=True),
        Column(f"own\n{unit}", right=True),
        Column(f"inherited\n{unit}", right=True),
        Column("ampli-\nfied", right=True),
        Column("share\n%", right=True),
        Column("left\n%", right=True),
    )


def _sentence(found: Compounding) -> str:
    largest = found.largest
    if not found.samples:
        return "nothing was measured"
    if largest is None or found.interaction is None:
        return f"no final error on {_samples(found)}"
    size = "; ".join(f"{_size(f.error)} at '{short(f.name)}'" for f in found.finals)
    ranked = sorted(found.shares, key=lambda s: -(s.share or 0.0))
    others = [s for s in ranked[1:_MOST_NAMED] if (s.share or 0.0) >= _LARGE]
    more = "".join(f", {_name(s)} {_percent(s.share)} %" for s in others)
    return (
        f"{_name(largest)} causes {_percent(largest.share)} % of the final error{more}. The final "
        f"error is {size}, RMSE over {_samples(found)}{_by_clipping(largest)}"
    )


def _by_clipping(largest: OpShare) -> str:
    """Return a note if most of the energy of an operator's error is saturation."""
    own, clipped = largest.own, largest.clipped
    if own is None or clipped is None or clipped.rmse**2 < 0.5 * own.rmse**2:
        return ""
    where = "operator" if largest.op is None else f"operator {largest.op}"
    return f"; most of the error of {where} is clipping of values beyond its output's range"


def _samples(found: Compounding) -> str:
    return "1 sample" if found.samples == 1 else f"{found.samples} samples"


def _name(share: OpShare) -> str:
    if share.op is None:
        return f"the rounding of input '{short(share.name)}'"
    return op_name(share.op, share.kind, share.name)


def _size(size: Size) -> str:
    if size.rmse_lsb is not None:
        return f"{number(size.rmse_lsb)} LSB"
    return number(size.rmse)


def _percent(value: float | None) -> str:
    """Return per cent with one decimal, without a minus zero."""
    if value is None:
        return "-"
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text


def _rows(shares: Sequence[OpShare], shown: set[int], quantized: bool) -> Iterator[tuple[str, ...]]:
    skipped: list[OpShare] = []
    for share in shares:
        if id(share) not in shown:
            skipped.append(share)
            continue
        if skipped:
            yield _gap(skipped)
            skipped = []
        yield _row(share, quantized)
    if skipped:
        yield _gap(skipped)


def _row(share: OpShare, quantized: bool) -> tuple[str, ...]:
    op = "" if share.op is None else str(share.op)
    return (
        f"> {op}" if abs(share.share or 0.0) >= _LARGE else op,
        share.kind,
        short(share.name) or f"tensor {share.tensor}",
        _error(share.own, quantized),
        _error(share.inherited, quantized),
        "-" if share.amplification is None else f"{share.amplification:.2f}",
        _percent(share.share),
        _percent(share.left),
    )


def _error(size: Size | None, quantized: bool) -> str:
    """Return LSB, or the relative error of a float tensor, in brackets in a quantized file."""
    if size is None:
        return "-"
    if size.rmse_lsb is not None:
        return f"{size.rmse_lsb:.2f}" if size.rmse_lsb < 100 else f"{size.rmse_lsb:.0f}"
    if size.relative is None:
        return "-"
    return f"({size.relative:.0e})" if quantized else f"{size.relative:.1e}"


def _gap(skipped: Sequence[OpShare]) -> tuple[str, ...]:
    total = sum(s.share or 0.0 for s in skipped)
    return ("...", f"({len(skipped)} more)", "", "", "", "", _percent(total), "")


def _sums(found: Compounding) -> Iterator[tuple[str, ...]]:
    if found.interaction is None:
        return
    unmeasured = len(found.unmeasured)
    said = "and unmeasured errors" if unmeasured else ""
    share = _percent(found.interaction)
    yield ("", "interaction", said, "", "", "", share, "")
    yield ("", "final error", "", "", "", "", "100.0", "100.0")


def _together(found: Compounding) -> tuple[str, ...]:
    if abs(found.interaction or 0.0) < _STRONG:
        return ()
    return (
        "the interaction is large: the effect of one operator's error depends on the others' "
        "errors, and the shares do not simply add up",
    )


def _misread(found: Compounding) -> tuple[str, ...]:
    return tuple(
        f"operator {s.op}: includes the errors of operators {', '.join(map(str, s.misread_by))} "
        "that are caused by its output's parameters, which are not the reference's"
        for s in found.shares
        if s.misread_by
    )


def _unmeasured(found: Compounding) -> tuple[str, ...]:
    """Return the reasons of missing shares, one line per reason."""
    reasons: dict[str, list[str]] = {}
    for share in found.unmeasured:
        if share.reason and found.interaction is not None:
            reasons.setdefault(share.reason, []).append(str(share.op))
    return tuple(
        f"not measured: operator{'s' if len(ops) > 1 else ''} {', '.join(ops)}: {reason}"
        for reason, ops in reasons.items()
    )
