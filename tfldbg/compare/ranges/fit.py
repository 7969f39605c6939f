"""Ranges that do not fit the values, and what made them so.

A range that reaches ``f`` times as far as the values need has steps that are ``f`` times as wide:
``log2(f)`` bits are lost.  Rounding to a step makes noise of the power ``step**2 / 12``, so that
``20 log10(f)`` dB of the signal-to-noise ratio are lost, 6 for every bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.graph.lint import FIXED_OUTPUTS
from tfldbg.graph.query import CHOOSING, SAME_SCALE_KINDS, activation_inputs, real_constant
from tfldbg.quant import code_range, real_range

if TYPE_CHECKING:
    from tfldbg.compare.ranges.calibrate import Extent
    from tfldbg.graph.model import Graph, Operator, Subgraph

WASTED = 8.0
"""Times as far as the values from which a range does not fit them: three bits of eight."""
_FEWEST = 32
"""Codes, five bits: more than that leave the values usable, as of sixteen bits."""
_ALIKE = 1.0 / WASTED
"""Relative difference up to which one range explains another that is `WASTED` times too wide."""
_AMPLIFYING = frozenset({"DIV", "EXP", "MUL", "POW", "RSQRT", "SQUARE", "SQUARED_DIFFERENCE"})
"""Operators that may write into the buffer of an input, and make more of its error than their own
rounding: a sum rounds to steps as wide as those of an operand that has its range, which costs
nothing more."""
_MAPPING = (SAME_SCALE_KINDS - {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}) | (
    {"ABS", "ADD", "CAST", "DEQUANTIZE", "MUL", "NEG", "QUANTIZE", "SUB"}
)
"""Operators of one computed input that make two values of two, or fewer."""
_FIXED = frozenset(kind for kind, _ in FIXED_OUTPUTS)
_SUMS = frozenset({"ADD", "SUB"})
_IN_FLOAT = _SUMS | CHOOSING
"""Those of `_MARKING` that count between DEQUANTIZE and QUANTIZE, too."""
_MARKING = _IN_FLOAT | {"MAXIMUM", "MINIMUM", "MUL", "PADV2"}
"""Operators that put a constant beside other values, or a mask that they make of it."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A quantized tensor and what occurs in it."""

    tensor: int
    op: int | None
    """The operator that writes it, None for an input of the model."""
    kind: str
    codes: int
    """How many codes its type has."""
    range: float
    """The largest magnitude that it can represent, real units."""
    reach: float
    """The largest magnitude that occurs in float arithmetic, real units."""
    reads: tuple[int, ...]
    """The computed inputs of the operator."""
    marks: tuple[float, ...] = ()
    """Constant inputs that may be sentinels, as `marks_of` returns them."""
    two_valued: bool = False
    """Whether it holds one or two different values only, as a mask does."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A tensor whose range is `WASTED` times as wide as values need that it holds."""

    tensor: int
    op: int
    range: float
    """The largest magnitude that it can represent, real units."""
    reach: float
    """The largest magnitude of the values that lose by it, real units."""
    codes: int
    by: int
    """The operator whose range it is."""
    by_kind: str
    sentinel: float | None
    """The constant that needs the range; None where another operator's values do."""

    @property
    def factor(self) -> float:
        """How many times as far as the values the range reaches."""
        return self.range / self.reach

    @property
    def bits(self) -> float:
        """Bits that are lost."""
        return math.log2(self.factor)

    @property
    def decibels(self) -> float:
        """Signal-to-noise ratio that is lost."""
        return 20.0 * math.log10(self.factor)

    @property
    def left(self) -> int:
        """Codes that the values are left with."""
        return int(self.codes / self.factor)

    @property
    def message(self) -> str:
        """What does not fit, by how much and why, as the end of a sentence."""
        left = f"{self.left} of {self.codes} codes are" if self.left else "less than one code is"
        why = f"it is that of operator {self.by} {self.by_kind} behind it, as of a buffer that was "
        why += "calibrated in place"
        if self.sentinel is not None:
            place = "" if self.by == self.op else f" of operator {self.by} {self.by_kind} behind it"
            why = f"the sentinel {self.sentinel:.4g}{place} takes it"
        return (
            f"its range reaches to {self.range:.3g}, {self.factor:.3g} times as far as values of "
            f"up to {self.reach:.3g} need: {self.bits:.1f} bits ({self.decibels:.0f} dB) are lost, "
            f"{left} left; {why}"
        )


def marks_of(graph: Graph, subgraph: Subgraph, op: Operator) -> tuple[float, ...]:
    """Return the largest value of each constant input that may be a sentinel, real units.

    Such a constant holds one or two values.  One that a sum adds everywhere moves all values alike
    and is none.
    """
    quantized = any(subgraph.tensors[i].lsb is not None for i in op.outputs[:1])
    if op.kind not in (_MARKING if quantized else _IN_FLOAT):
        return ()
    found = []
    for tensor in (subgraph.tensors[i] for i in op.inputs if i >= 0):
        real = real_constant(graph, tensor) if tensor.has_data else None
        if real is None or not real.size or real.dtype.kind != "f":
            continue
        ends = float(real.min()), float(real.max())
        two = bool(((real == ends[0]) | (real == ends[1])).all()) and all(map(math.isfinite, ends))
        if two and not (op.kind in _SUMS and ends[0] == ends[1]):
            found.append(max(ends, key=abs))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Made:
    """How a tensor is computed."""

    kind: str
    """The operator that writes it."""
    reads: tuple[int, ...]
    """The computed inputs of the operator."""
    marks: tuple[float, ...]
    """As `marks_of` returns them."""
    is_float: bool
    """Whether the tensor is not quantized."""


def rounded_to(tensor: int, made: Mapping[int, Made]) -> Made:
    """Return what computes the values that a tensor holds, and the quantized tensors it reads.

    Where a sum or a choice has no integer kernel, that is the operator before a QUANTIZE, and it
    reads what the DEQUANTIZE before it reads.

    Args:
        tensor: A tensor that an operator writes.
        made: By tensor how it is computed.
    """
    own = made[tensor]
    before = made.get(own.reads[0]) if own.kind == "QUANTIZE" and own.reads else None
    if before is None or not before.is_float or before.kind not in _IN_FLOAT:
        return own
    given = (made.get(i) for i in before.reads)
    converted = (g.reads if g and g.kind == "DEQUANTIZE" else () for g in given)
    return replace(before, reads=tuple(i for reads in converted for i in reads))


def fill(
    graph: Graph, subgraph: Subgraph, seen: Mapping[int, Extent], masks: frozenset[int]
) -> list[Filled]:
    """Return the quantized tensors of a file with what a float pass saw in them.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        seen: By tensor what was seen; what an operator copies holds what it was copied from.
        masks: The inputs that hold one or two different values only.
    """
    reaches = {i: extent.reach for i, extent in seen.items()}
    pairs = set(masks)
    inputs: list[tuple[Operator | None, int]] = [(None, i) for i in subgraph.inputs]
    written = [(op, i) for op in subgraph.operators for i in op.outputs if i >= 0]
    made = {
        i: Made(
            kind=op.kind,
            reads=tuple(t.index for t in activation_inputs(subgraph, op)),
            marks=marks_of(graph, subgraph, op),
            is_float=subgraph.tensors[i].lsb is None,
        )
        for op, i in written
    }
    found = []
    for op, index in [*inputs, *written]:
        tensor = subgraph.tensors[index]
        reads = made[index].reads if op else ()
        if op and op.kind in _MAPPING and len(reads) == 1 and pairs.issuperset(reads):
            pairs.add(index)
        if tensor.lsb is None or tensor.zero_point is None:
            continue
        own = rounded_to(index, made) if op else Made("input", (), (), is_float=False)
        copied = [*(reaches.get(i, 0.0) for i in reads), *map(abs, own.marks)]
        low, high = code_range(tensor.type)
        found.append(
            Filled(
                tensor=index,
                op=op.index if op else None,
                kind=own.kind,
                codes=high - low + 1,
                range=max(map(abs, real_range(tensor.type, tensor.lsb, tensor.zero_point))),
                reach=reaches.setdefault(index, max(copied, default=0.0)),
                reads=own.reads,
                marks=own.marks,
                two_valued=index in pairs,
            )
        )
    return found


def wasteful(codes: int, width: float, reach: float) -> bool:
    """Whether a range is `WASTED` times too wide and leaves few codes."""
    return reach > 0 and width >= WASTED * reach and codes * reach <= _FEWEST * width


def misfits(tensors: Sequence[Filled]) -> dict[int, Misfit]:
    """Return by tensor the ranges that are another's: a neighbour's, or a sentinel's.

    A range that is too wide by itself is none of them: it may come from data other than this.

    Args:
        tensors: Every quantized tensor that holds values, in execution order.
    """
    known = {t.tensor: t for t in tensors}
    readers: dict[int, list[Filled]] = {}
    for tensor in tensors:
        for index in dict.fromkeys(tensor.reads):
            readers.setdefault(index, []).append(tensor)
    found = (_misfit(tensor, known, readers) for tensor in tensors)
    return {m.tensor: m for m in found if m is not None}


def _misfit(
    tensor: Filled, known: Mapping[int, Filled], readers: Mapping[int, list[Filled]]
) -> Misfit | None:
    if tensor.op is None or tensor.kind in SAME_SCALE_KINDS | _FIXED:
        return None  # others decide on the range
    if wasteful(tensor.codes, tensor.range, tensor.reach):
        return next(_behind(tensor, tensor, known, readers, {tensor.tensor}), None)
    return _swallowed(tensor, known) if tensor.kind in _IN_FLOAT else None


def _behind(
    wide: Filled,
    at: Filled,
    known: Mapping[int, Filled],
    readers: Mapping[int, list[Filled]],
    seen: set[int],
) -> Iterator[Misfit]:
    """Yield the operators behind a tensor whose range it may have, the nearest first."""
    for reader in readers.get(at.tensor, ()):
        if reader.tensor in seen or reader.op is None:
            continue
        seen.add(reader.tensor)
        copies = reader.kind in SAME_SCALE_KINDS
        sentinel = _sentinel(reader, at, wide.range, known)
        if sentinel is not None and _alike(reader.range, wide.range):
            yield _because(wide, wide.reach, reader, sentinel)
        elif copies and not wasteful(reader.codes, wide.range, reader.reach):
            continue  # another branch fills the range that they must share
        elif copies:
            yield from _behind(wide, reader, known, readers, seen)
        elif _took_its_buffer(reader, wide.range):
            yield _because(wide, wide.reach, reader, None)


def _took_its_buffer(reader: Filled, width: float) -> bool:
    """Whether an operator may have written into its input's buffer what fills a range."""
    fills = 2 * reader.reach >= reader.range
    same = _alike(reader.range, width) or _alike(reader.reach, width)
    return reader.kind in _AMPLIFYING and fills and same


def _swallowed(tensor: Filled, known: Mapping[int, Filled]) -> Misfit | None:
    """Return what the operand of a sum or a choice loses to a sentinel in the same output."""
    for index in tensor.reads:
        operand = known.get(index)
        if operand is None or not wasteful(tensor.codes, tensor.range, operand.reach):
            continue
        if tensor.kind in CHOOSING and _alike(operand.range, tensor.range):
            continue  # they are lost where the operand is written
        sentinel = _sentinel(tensor, operand, tensor.range, known)
        if sentinel is not None and not _is_mask(operand, known):
            return _because(tensor, operand.reach, tensor, sentinel)
    return None


def _because(wide: Filled, reach: float, by: Filled, sentinel: float | None) -> Misfit:
    return Misfit(
        tensor=wide.tensor,
        op=-1 if wide.op is None else wide.op,
        range=wide.range,
        reach=reach,
        codes=wide.codes,
        by=-1 if by.op is None else by.op,
        by_kind=by.kind,
        sentinel=sentinel,
    )


def _sentinel(
    op: Filled, values: Filled, width: float, known: Mapping[int, Filled]
) -> float | None:
    """Return the sentinel that an operator puts beside values and that fills a range."""
    if op.kind not in _MARKING - {"MUL"}:
        return None  # it puts nothing beside them: a factor is no sentinel
    found = list(op.marks)
    for index in op.reads:
        other = known.get(index)
        if other is not None and other is not values:
            found += _masks(other, known)
    return next((m for m in found if _alike(abs(m), width)), None)


def _masks(tensor: Filled, known: Mapping[int, Filled]) -> Iterator[float]:
    """Yield what a tensor holds where it is a mask: its own largest value, or what made it."""
    while tensor.kind in SAME_SCALE_KINDS and len(tensor.reads) == 1 and tensor.reads[0] in known:
        tensor = known[tensor.reads[0]]
    if _is_mask(tensor, known):
        made = [m for m in tensor.marks if _alike(abs(m), tensor.reach)]
        yield from made or (tensor.reach,)


def _is_mask(tensor: Filled, known: Mapping[int, Filled]) -> bool:
    """Whether a tensor holds two values because what it is made of does.

    One that a range too wide leaves two codes is no mask.
    """
    return tensor.two_valued and all(_is_mask(known[i], known) for i in tensor.reads if i in known)


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _ALIKE * max(one, other)
