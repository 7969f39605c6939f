"""How numbers and names are said."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import BiasCheck, WeightCheck


_TENTH_PERCENT = 0.001


def number(value: float | None) -> str:
    """Three significant digits without an exponent where that is readable."""
    if value is None:
        return "none"
    if value == 0 or 0.001 <= abs(value) < 10000:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.2e}"


def short(name: str) -> str:
    """The layer that a tensor name begins with: ``cnn/stem/Relu6;cnn/stem_bn/...`` is ``stem``.

    A name joins graph nodes with ``;``, and a node is ``model/layer/operation``.
    """
    first = next((part for part in name.split(";") if part), name)
    parts = first.removeprefix("StatefulPartitionedCall/").split("/")
    return "/".join(parts[1:-1] if len(parts) > 2 else parts[-1:])


def op_label(op: int, kind: str, tensor: str | None) -> str:
    """``12 CONV_2D 'block2'``; ``12 WHILE`` where no tensor is given."""
    return f"{op} {kind}" if tensor is None else f"{op} {kind} '{short(tensor)}'"


def op_name(op: int, kind: str, tensor: str | None) -> str:
    """``operator 12 CONV_2D 'block2'``."""
    return f"operator {op_label(op, kind, tensor)}"


def plural(count: int, noun: str) -> str:
    """``1 operator``, ``2 operators``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def off_by(check: WeightCheck | BiasCheck) -> str:
    """``3.2 steps``; of constants without a scale ``0.12 (16.0% of the largest)``."""
    if check.unit == "scale":
        return f"{number(check.max_steps)} steps"
    if not check.largest:
        return number(check.max_real)
    return f"{number(check.max_real)} ({part_of_largest(check)} of the largest)"


def part_of_largest(check: WeightCheck | BiasCheck) -> str:
    """``16.0%``: by how much a constant is off, relative to the reference's largest value."""
    share = check.max_real / check.largest
    return f"{share:.1%}" if share >= _TENTH_PERCENT or not share else f"{share:.1e}"
