"""What the compounding section shows."""

from __future__ import annotations

from dataclasses import replace

from tfldbg.compare.shares import Compounding, FinalError, OpShare, Size
from tfldbg.report.compounding import build_compounding

SIZE = Size(rmse=0.1, rmse_lsb=0.5, relative=0.01)


def _share(op: int | None, share: float | None, reason: str | None = None) -> OpShare:
    return OpShare(
        op=op,
        kind="CONV_2D" if op is not None else "INPUT",
        tensor=op or 0,
        name=f"net/layer_{op}/Relu",
        own=SIZE,
        clipped=None,
        inherited=SIZE,
        accumulated=SIZE,
        amplification=1.5,
        share=share,
        left=None if share is None else 0.3,
        reason=reason,
        joint=(),
        misread_by=(),
    )


def _found(*shares: OpShare) -> Compounding:
    total = sum(s.share or 0.0 for s in shares)
    return Compounding(16, (FinalError(9, "net/out/Softmax", SIZE),), shares, 1 - total, 0.0, ())


def test_nothing_is_shown_where_it_was_not_asked_for() -> None:
    assert build_compounding(None, everything=False) is None


def test_the_largest_are_named_and_the_rest_is_summed_up() -> None:
    shares = [_share(i, 0.02) for i in range(20)]
    shares[7], shares[3] = _share(7, 0.4), _share(3, -0.2)
    section = build_compounding(_found(*shares), everything=False)
    assert section is not None
    assert section.sentence.startswith("operator 7 CONV_2D 'layer_7' causes 40.0 % of the final")
    assert "RMSE over 16 samples" in section.sentence
    rows = [row for row in section.rows if not row.summary]
    assert len(rows) == 12
    assert {row.op for row in rows if row.large} == {"3", "7"}
    gaps = [row for row in section.rows if row.op == "..."]
    assert sum(int(row.kind.strip("( more)")) for row in gaps) == 8
    assert [row.kind for row in section.rows[-2:]] == ["interaction", "final error"]
    everything = build_compounding(_found(*shares), everything=True)
    assert everything is not None and len(everything.rows) == 22


def test_several_large_shares_are_all_named() -> None:
    found = _found(_share(None, 0.5), _share(0, 0.3), _share(1, 0.15))
    section = build_compounding(found, everything=False)
    assert section is not None
    assert "the rounding of input" in section.sentence
    assert "operator 0 CONV_2D 'layer_0' 30.0 %, operator 1 CONV_2D" in section.sentence


def test_what_was_not_measured_is_said_with_the_reason() -> None:
    found = _found(_share(0, 0.9), _share(1, None, "no name"), _share(2, None, "no name"))
    section = build_compounding(found, everything=False)
    assert section is not None
    assert section.notes == ("not measured: operators 1, 2: no name",)
    assert section.rows[-2].tensor == "and what was not measured"


def test_a_large_interaction_is_explained() -> None:
    section = build_compounding(_found(_share(0, 0.9), _share(1, 0.8)), everything=False)
    assert section is not None and "do not simply add up" in section.notes[0]


def test_without_a_final_error_there_is_no_table_of_sums() -> None:
    found = replace(_found(_share(0, None, "there is no final error")), interaction=None)
    section = build_compounding(found, everything=False)
    assert section is not None
    assert section.sentence == "no final error on 16 samples"
    assert not section.notes
