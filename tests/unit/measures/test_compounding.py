"""What the compounding section shows."""

from __future__ import annotations

from dataclasses import replace

from tfldbg.measures.compounding.section import compounding_section
from tfldbg.measures.compounding.shares import Compounding, FinalError, OpShare, Size
from tfldbg.measures.section import Section

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


def _section(found: Compounding, *, everything: bool = False) -> Section:
    (section,) = compounding_section(found, everything=everything)
    return section


def test_nothing_is_shown_where_it_was_not_asked_for() -> None:
    assert compounding_section(None, everything=False) == ()


def test_the_largest_are_named_and_the_rest_is_summed_up() -> None:
    shares = [_share(i, 0.02) for i in range(20)]
    shares[7], shares[3] = _share(7, 0.4), _share(3, -0.2)
    section = _section(_found(*shares))
    said = "compounding: operator 7 CONV_2D 'layer_7' causes 40.0 % of the final"
    assert section.title.startswith(said)
    assert "RMSE over 16 samples" in section.title
    assert {row[0] for row in section.rows if row[0].startswith(">")} == {"> 3", "> 7"}
    gaps = [row for row in section.rows if row[0] == "..."]
    assert sum(int(row[1].strip("( more)")) for row in gaps) == 8
    assert len(section.rows) == 12 + len(gaps) + 2
    assert [row[1] for row in section.rows[-2:]] == ["interaction", "final error"]
    assert len(_section(_found(*shares), everything=True).rows) == 22


def test_several_large_shares_are_all_named() -> None:
    section = _section(_found(_share(None, 0.5), _share(0, 0.3), _share(1, 0.15)))
    assert "the rounding of input" in section.title
    assert "operator 0 CONV_2D 'layer_0' 30.0 %, operator 1 CONV_2D" in section.title


def test_what_was_not_measured_is_said_with_the_reason() -> None:
    found = _found(_share(0, 0.9), _share(1, None, "no name"), _share(2, None, "no name"))
    section = _section(found)
    assert section.lines == ("note: not measured: operators 1, 2: no name",)
    assert section.rows[-2][2] == "and unmeasured errors"


def test_a_large_interaction_is_explained() -> None:
    section = _section(_found(_share(0, 0.9), _share(1, 0.8)))
    assert "do not simply add up" in section.lines[0]


def test_without_a_final_error_there_is_no_table_of_sums() -> None:
    found = replace(_found(_share(0, None, "there is no final error")), interaction=None)
    section = _section(found)
    assert section.title == "compounding: no final error on 16 samples"
    assert not section.lines
