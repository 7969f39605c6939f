"""A trace as a flat table, and as a DataFrame."""

from __future__ import annotations

import builtins
import json
import math
from dataclasses import replace
from typing import Any

import pandas
import pytest

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.compare.constants.checks import BiasCheck, WeightCheck
from tfldbg.compare.custom import MetricStats
from tfldbg.compare.tally import Split
from tfldbg.diagnose.evidence import OpEvidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.errors import MissingExtraError
from tfldbg.options.judge import Thresholds
from tfldbg.report.dataframe import to_dataframe
from tfldbg.report.tabular import Value, columns, rows
from tfldbg.report.trace_json import trace_to_dict

LISTS = {"local_channel_max_abs", "accumulated_channel_max_abs", "expected_parameters", "histogram"}
"""What the JSON holds and the table leaves out, or says in two columns."""


def _full() -> OpEvidence:
    """An operator with a figure in every column, but for reasons why there are none."""
    bias = BiasCheck(104, 7, 0.1, 0, 1.0, 1.0, 0, 3, 0.0, misfolded="x", arrangement="y")
    weights = WeightCheck(104, 6, 0.2, 1, 0, 9, bias=bias, misfolded="x", arrangement="y")
    full = operator(4, local=0.5, accumulated=2.0)
    return replace(full, weights=weights, split=Split(0.1, 0.2, 0.3))


def _result(*ops: OpEvidence) -> Result:
    made = evidence(*ops)
    return Result(made, diagnose(made, Thresholds()))


def _table(result: Result) -> list[dict[str, Value]]:
    names = [c.name for c in columns(result)]
    return [dict(zip(names, row, strict=True)) for row in rows(result)]


def _leaves(prefix: str, plain: Any) -> dict[str, Any]:
    if not isinstance(plain, dict):
        return {prefix: plain}
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= _leaves(f"{prefix}_{name}" if prefix else name, value)
    return found


def test_every_figure_of_the_json_has_its_column_and_no_other_has() -> None:
    result = _result(_full())
    (row,) = _table(result)
    leaves = _leaves("", json.loads(json.dumps(trace_to_dict(result)["ops"][0])))
    assert set(row) - {"expected_scale", "expected_zero_point"} == set(leaves) - LISTS
    for name in set(leaves) - LISTS:
        assert row[name] == leaves[name], name
    assert [row["expected_scale"], row["expected_zero_point"]] == leaves["expected_parameters"]


def test_cells_are_of_their_column_s_type() -> None:
    result = _result(_full(), operator(5, local=None))
    types = {"int": int, "float": (int, float), "text": str, "bool": bool}
    for row in rows(result):
        for column, cell in zip(columns(result), row, strict=True):
            assert cell is None or isinstance(cell, types[column.type]), column


def test_the_columns_do_not_depend_on_the_trace() -> None:
    assert columns(_result()) == columns(_result(_full()))
    assert rows(_result()) == []


def test_a_dataframe_keeps_integers_and_marks_what_is_missing() -> None:
    floating = replace(operator(1, local=0.0), scale=None, zero_point=None, type="FLOAT32")
    frame = to_dataframe(_result(operator(0, local=40.0), floating, operator(2, local=None)))
    assert frame["op"].tolist() == [0, 1, 2] and str(frame["op"].dtype) == "Int64"
    assert frame["zero_point"].isna().tolist() == [False, True, False]
    assert str(frame["zero_point"].dtype) == "Int64"
    assert str(frame["local_max_lsb"].dtype) == "float64"
    assert frame["local_max_lsb"][0] == pytest.approx(40) and math.isnan(frame["local_max_lsb"][2])
    assert frame["scale"].isna().tolist() == [False, True, False]
    assert frame["unchecked_reason"][0] is pandas.NA
    assert frame.loc[frame["status"] == "origin", "op"].tolist() == [0]
    assert len(to_dataframe(_result())) == 0


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="needs the package pandas") as caught:
        to_dataframe(_result(operator(0, local=0.5)))
    assert caught.value.hint == "python3 -m pip install 'tfldbg[pandas]'"


def test_metrics_of_the_user_have_columns_of_their_own() -> None:
    psnr = MetricStats(41.5, 40.0, 43.0, 1, 0, samples=2, infinite=1, left_out=0)
    op = _full()
    assert op.local is not None
    metered = replace(op, local=replace(op.local, metrics={"psnr": psnr}))
    first, second = _table(_result(metered, operator(5, local=None)))
    assert first["local_metrics_psnr_mean"] == 41.5 and first["local_metrics_psnr_infinite"] == 1
    assert second["local_metrics_psnr_mean"] is None
    assert "accumulated_metrics_psnr_mean" not in first
    names = {c.name: c.type for c in columns(_result(metered))}
    assert names["local_metrics_psnr_max_sample"] == "int"
    assert names["local_metrics_psnr_max"] == "float"
