"""Format the cells of the tables of quantization parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from tfldbg.diagnose.words import number
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.ranges.calibrate import Calibrated
    from tfldbg.compare.ranges.parameters import AffineRange

NOTHING = "-"


def pair(parameters: AffineRange | Calibrated | None) -> str:
    """Return a scale and a zero point in words."""
    if parameters is None:
        return NOTHING
    return f"{number(parameters.scale)}, {parameters.zero_point}"


def new_table(*titles: str) -> Table:
    """Return an empty table whose first column is the operator's number."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    drawn.add_column("op", justify="right", no_wrap=True)
    for title in titles:
        drawn.add_column(title, overflow="fold")
    return drawn


def lines(first: str, second: str = "") -> Text:
    """Return a cell with a second, dimmer line."""
    cell = Text(printable(first))
    return cell.append("\n").append(printable(second), "dim") if second else cell


def range_of(parameters: AffineRange | None) -> str:
    """Return the range of real values that parameters represent, in words."""
    return "" if parameters is None else ends_of((parameters.minimum, parameters.maximum))


def ends_of(ends: tuple[float, float] | None) -> str:
    """Return a range in words."""
    return NOTHING if ends is None else f"{number(ends[0])}..{number(ends[1])}"
