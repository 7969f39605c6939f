"""Format numbers and names for messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import BiasCheck, WeightCheck


_TENTH_PERCENT = 0.001


def number(value: float | None) -> str:
    """Return a number with three significant digits, without an exponent if that is readable."""
    if value is None:
        return "none"
    if value == 0 or 0.001 <= abs(value) < 10000:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.2e}"


def short(name: str) -> str:
    """Return the first layer of a tensor name: ``stem`` of ``cnn/stem/Relu6;cnn/stem_bn/...``.

    A name joins graph nodes with ``;``, and a node is ``model/layer/operation``.
    """
    first = next((part for part in name.split(";") if part), name)
    parts = first.removeprefix("StatefulPartitionedCall/").split("/")
    return "/".join(parts[1:-1] if len(parts) > 2 else parts[-1:])


def op_label(op: int, kind: str, tensor: str | None) -> str:
    """Return an operator as ``12 CONV_2D 'block2'``, or ``12 WHILE`` if no tensor is given."""
    return f"{op} {kind}" if tensor is None else f"{op} {kind} '{short(tensor)}'"


def op_name(op: int, kind: str, tensor: str | None) -> str:
    """Return an operator as ``operator 12 CONV_2D 'block2'``."""
    return f"operator {op_label(op, kind, tensor)}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 operator``, ``2 operators``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def off_by(check: WeightCheck | BiasCheck) -> str:
    """Return a constant's error: ``3.2 steps``; ``0.12 (16.0% of the largest)`` without a scale."""
    if check.unit == "scale":
        return f"{number(check.max_steps)} steps"
    if not check.largest:
        return number(check.max_real)
    return f"{number(check.max_real)} ({part_of_largest(check)} of the largest)"


def part_of_largest(check: WeightCheck | BiasCheck) -> str:
    """Return the error of a constant relative to the reference's largest value: ``16.0%``."""
    share = check.max_real / check.largest
    return f"{share:.1%}" if share >= _TENTH_PERCENT or not share else f"{share:.1e}"
