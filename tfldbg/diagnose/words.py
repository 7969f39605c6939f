"""How numbers and names are said."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Three significant digits without an exponent where that is readable."""
    if value is None:
        return "none"
    if value == 0 or 0.001 <= abs(value) < 10000:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.2e}"


def short(name: str) -> str:
    """The first of the graph names that a tensor name joins, the model's name left out."""
    first = next((part for part in name.split(";") if part), name)
    first = first.removeprefix("StatefulPartitionedCall/")
    return first.partition("/")[2] or first


def op_name(op: int, kind: str, tensor: str) -> str:
    """``operator 12 CONV_2D 'block2/conv'``."""
    return f"operator {op} {kind} '{short(tensor)}'"
