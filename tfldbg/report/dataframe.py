"""A trace as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfldbg.errors import MissingExtraError
from tfldbg.report.tabular import columns, rows

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result

_DTYPES = {"int": "Int64", "float": "float64", "text": "string", "bool": "boolean"}


def to_dataframe(result: Result) -> Any:
    """Return the table of `tfldbg.report.tabular` as a DataFrame.

    Integers are ``Int64``, strings ``string`` and flags ``boolean``, with ``pandas.NA`` for
    missing values; figures are ``float64``, with NaN for missing values.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("to_dataframe()", "pandas", extra="pandas") from error
    wanted = columns(result)
    cells = list(zip(*rows(result), strict=True)) or [()] * len(wanted)
    return pandas.DataFrame(
        {
            column.name: pandas.Series(list(values), dtype=_DTYPES[column.type])
            for column, values in zip(wanted, cells, strict=True)
        }
    )
