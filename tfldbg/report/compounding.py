"""The view model of the compounding section: which operators cause the final error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfldbg.compare.shares import Compounding, OpShare, Size
from tfldbg.diagnose.words import number, op_name, short

_MOST_ROWS = 12
_LARGE = 0.1
"""Share from which an operator is named in the sentence and stands out in the table."""
_MOST_NAMED = 3
_STRONG = 0.5
"""Interaction, in parts of the final error, from which a note says what it means."""


@dataclass(frozen=True, slots=True)
class CompoundingRow:
    """An operator, an input of the model, or a line that sums up."""

    op: str
    kind: str
    tensor: str
    own: str
    inherited: str
    amplification: str
    share: str
    """Percent of the final error."""
    left: str
    """Final error without it, percent of the final error."""
    large: bool = False
    summary: bool = False


@dataclass(frozen=True, slots=True)
class CompoundingSection:
    """The section of a report."""

    sentence: str
    unit: str
    """What the error columns count: ``LSB``, or ``relative`` when no tensor is quantized."""
    rows: tuple[CompoundingRow, ...]
    notes: tuple[str, ...]


def build_compounding(found: Compounding | None, *, everything: bool) -> CompoundingSection | None:
    """Choose and word what is shown.

    Args:
        found: What was measured; None where it was not asked for.
        everything: Show every operator, not only those with the largest shares.
    """
    if found is None:
        return None
    quantized = any(s.own is not None and s.own.rmse_lsb is not None for s in found.shares)
    shown = set(map(id, found.shares))
    if not everything and len(found.shares) > _MOST_ROWS:
        ranked = sorted(found.shares, key=lambda s: -abs(s.share or 0.0))
        shown = set(map(id, ranked[:_MOST_ROWS]))
    rows = _rows(found.shares, shown, quantized)
    return CompoundingSection(
        sentence=_sentence(found),
        unit="LSB" if quantized else "relative",
        rows=(*rows, *_sums(found)),
        notes=(*found.notes, *_together(found), *_misread(found), *_unmeasured(found)),
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
    """Say so where most of an own error's energy is saturation."""
    own, clipped = largest.own, largest.clipped
    if own is None or clipped is None or clipped.rmse**2 < 0.5 * own.rmse**2:
        return ""
    where = "operator" if largest.op is None else f"operator {largest.op}"
    return f"; most of what {where} does is to clip values beyond its output's range"


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
    """Whole percents and a tenth where it matters; no minus zero."""
    if value is None:
        return "-"
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text


def _rows(shares: Sequence[OpShare], shown: set[int], quantized: bool) -> Iterator[CompoundingRow]:
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


def _row(share: OpShare, quantized: bool) -> CompoundingRow:
    return CompoundingRow(
        op="" if share.op is None else str(share.op),
        kind=share.kind,
        tensor=short(share.name) or f"tensor {share.tensor}",
        own=_error(share.own, quantized),
        inherited=_error(share.inherited, quantized),
        amplification="-" if share.amplification is None else f"{share.amplification:.2f}",
        share=_percent(share.share),
        left=_percent(share.left),
        large=share.share is not None and abs(share.share) >= _LARGE,
    )


def _error(size: Size | None, quantized: bool) -> str:
    """Return LSB, or in a file with both kinds the relative error of float tensors in brackets."""
    if size is None:
        return "-"
    if size.rmse_lsb is not None:
        return f"{size.rmse_lsb:.2f}" if size.rmse_lsb < 100 else f"{size.rmse_lsb:.0f}"
    if size.relative is None:
        return "-"
    return f"({size.relative:.0e})" if quantized else f"{size.relative:.1e}"


def _gap(skipped: Sequence[OpShare]) -> CompoundingRow:
    total = sum(s.share or 0.0 for s in skipped)
    said = f"({len(skipped)} more)"
    return CompoundingRow("...", said, "", "", "", "", _percent(total), "", summary=True)


def _sums(found: Compounding) -> Iterator[CompoundingRow]:
    if found.interaction is None:
        return
    unmeasured = len(found.unmeasured)
    said = "and what was not measured" if unmeasured else ""
    share = _percent(found.interaction)
    yield CompoundingRow("", "interaction", said, "", "", "", share, "", summary=True)
    yield CompoundingRow("", "final error", "", "", "", "", "100.0", "100.0", summary=True)


def _together(found: Compounding) -> tuple[str, ...]:
    if abs(found.interaction or 0.0) < _STRONG:
        return ()
    return (
        "the interaction is large: what one operator's error does depends on the others' errors, "
        "and the shares do not simply add up",
    )


def _misread(found: Compounding) -> tuple[str, ...]:
    return tuple(
        f"operator {s.op}: counted with what operators {', '.join(map(str, s.misread_by))} make "
        "wrong because its output's parameters are not the reference's"
        for s in found.shares
        if s.misread_by
    )


def _unmeasured(found: Compounding) -> tuple[str, ...]:
    """Say why shares are missing, one line a reason."""
    reasons: dict[str, list[str]] = {}
    for share in found.unmeasured:
        if share.reason and found.interaction is not None:
            reasons.setdefault(share.reason, []).append(str(share.op))
    return tuple(
        f"not measured: operator{'s' if len(ops) > 1 else ''} {', '.join(ops)}: {reason}"
        for reason, ops in reasons.items()
    )
