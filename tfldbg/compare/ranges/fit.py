"""Find ranges that do not fit the values, and their causes.

A range that is ``f`` times as wide as the values need has steps that are ``f`` times as wide:
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
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.compare.ranges.calibrate import Extent
    from tfldbg.graph.model import Graph, Operator, Subgraph

WASTED = 8.0
"""The ratio of range to values from which the range does not fit: three bits of eight."""
_FEWEST = 32
"""The number of codes, five bits, above which the values remain usable, as with 16 bits."""
_ALIKE = 1.0 / WASTED
"""The relative difference up to which one range explains another that is too wide."""
_AMPLIFYING = frozenset({"DIV", "EXP", "MUL", "POW", "RSQRT", "SQUARE", "SQUARED_DIFFERENCE"})
"""Operators that may write into the buffer of an input and amplify its error beyond their own
rounding.  A sum is not among them: it rounds to steps as wide as those of an operand with its
range, which costs no more."""
_MAPPING = (SAME_SCALE_KINDS - {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}) | (
    {"ABS", "ADD", "CAST", "DEQUANTIZE", "MUL", "NEG", "QUANTIZE", "SUB"}
)
"""Operators of one computed input whose output has at most two values if the input has two."""
_FIXED = frozenset(kind for kind, _ in FIXED_OUTPUTS)
_SUMS = frozenset({"ADD", "SUB"})
_IN_FLOAT = _SUMS | CHOOSING
"""The kinds of `_MARKING` that also count between DEQUANTIZE and QUANTIZE."""
_MARKING = _IN_FLOAT | {"MAXIMUM", "MINIMUM", "MUL", "PADV2"}
"""Operators that combine values with a constant, or with a mask made from it."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A quantized tensor and the values that occur in it."""

    tensor: int
    op: int | None
    """The operator that writes it, or None for an input of the model."""
    kind: str
    codes: int
    """The number of codes of its type."""
    range: float
    """The largest magnitude that it can represent, real units."""
    reach: float
    """The largest magnitude that occurs in float arithmetic, real units."""
    reads: tuple[int, ...]
    """The computed inputs of the operator."""
    marks: tuple[float, ...] = ()
    """The constant inputs that may be sentinels, as returned by `marks_of`."""
    two_valued: bool = False
    """True if it holds only one or two different values, as a mask does."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A tensor whose range is `WASTED` times as wide as its values need."""

    tensor: int
    op: int
    range: float
    """The largest magnitude that it can represent, real units."""
    reach: float
    """The largest magnitude of the values that lose precision, real units."""
    codes: int
    by: int
    """The operator whose values need the range."""
    by_kind: str
    sentinel: float | None
    """The constant that needs the range, or None if another operator's values do."""

    @property
    def factor(self) -> float:
        """The ratio of the range to the values."""
        return self.range / self.reach

    @property
    def bits(self) -> float:
        """The number of bits that are lost."""
        return math.log2(self.factor)

    @property
    def decibels(self) -> float:
        """The signal-to-noise ratio that is lost."""
        return 20.0 * math.log10(self.factor)

    @property
    def left(self) -> int:
        """The number of codes that remain for the values."""
        return int(self.codes / self.factor)

    @property
    def message(self) -> str:
        """The misfit, its size and its cause, as the end of a sentence."""
        left = f"{self.left} of {self.codes} codes are" if self.left else "less than one code is"
        why = f"it is that of operator {self.by} {self.by_kind} after it, as of a buffer that was "
        why += "calibrated in place"
        if self.sentinel is not None:
            place = "" if self.by == self.op else f" of operator {self.by} {self.by_kind} after it"
            why = f"the sentinel {self.sentinel:.4g}{place} takes it"
        return (
            f"its range reaches to {self.range:.3g}, {self.factor:.3g} times as far as values of "
            f"up to {self.reach:.3g} need: {self.bits:.1f} bits ({self.decibels:.0f} dB) are lost, "
            f"{left} left; {why}"
        )


def marks_of(graph: Graph, subgraph: Subgraph, op: Operator) -> tuple[float, ...]:
    """Return the largest value of each constant input that may be a sentinel, real units.

    Such a constant holds one or two values.  A constant that a sum adds everywhere is not included,
    because it moves all values equally.
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
class Producer:
    """The operator that computes a tensor, and its inputs."""

    kind: str
    """The kind of the operator that writes it."""
    reads: tuple[int, ...]
    """The computed inputs of the operator."""
    marks: tuple[float, ...]
    """The marks as returned by `marks_of`."""
    is_float: bool
    """True if the tensor is not quantized."""


def rounded_to(tensor: int, made: Mapping[int, Producer]) -> Producer:
    """Return the operator that computes a tensor's values, with the quantized tensors it reads.

    If a sum or a choice has no integer kernel, this is the operator before a QUANTIZE, with the
    inputs of the DEQUANTIZE before it.

    Args:
        tensor: A tensor that an operator writes.
        made: The operator and inputs that compute each tensor.
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
    """Return the quantized tensors of a file with the values that a float pass saw in them.

    Args:
        graph: The file.
        subgraph: The subgraph.
        seen: The values seen in each tensor; copies of a tensor hold the values of the original.
        masks: The inputs that hold only one or two different values.
    """
    reaches = {i: extent.reach for i, extent in seen.items()}
    pairs = set(masks)
    inputs: list[tuple[Operator | None, int]] = [(None, i) for i in subgraph.inputs]
    written = [(op, i) for op in subgraph.operators for i in op.outputs if i >= 0]
    made = {
        i: Producer(
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
        affine = tensor.affine
        if affine is None:
            continue
        own = rounded_to(index, made) if op else Producer("input", (), (), is_float=False)
        copied = [*(reaches.get(i, 0.0) for i in reads), *map(abs, own.marks)]
        low, high = code_range(tensor.type)
        found.append(
            Filled(
                tensor=index,
                op=op.index if op else None,
                kind=own.kind,
                codes=high - low + 1,
                range=max(map(abs, affine.real_range(tensor.type))),
                reach=reaches.setdefault(index, max(copied, default=0.0)),
                reads=own.reads,
                marks=own.marks,
                two_valued=index in pairs,
            )
        )
    return found


def wasteful(codes: int, width: float, reach: float) -> bool:
    """Return whether a range is `WASTED` times too wide and leaves few codes."""
    return reach > 0 and width >= WASTED * reach and codes * reach <= _FEWEST * width


def misfits(tensors: Sequence[Filled]) -> dict[int, Misfit]:
    """Return the ranges that belong to a neighbour or a sentinel, by tensor.

    Ranges that are too wide for another reason are left out: other data may need them.

    Args:
        tensors: Every quantized tensor that holds values, in execution order.
    """
    known = {t.tensor: t for t in tensors}
    consumers: dict[int, list[Filled]] = {}
    for tensor in tensors:
        for index in dict.fromkeys(tensor.reads):
            consumers.setdefault(index, []).append(tensor)
    found = (_misfit(tensor, known, consumers) for tensor in tensors)
    return {m.tensor: m for m in found if m is not None}


def _misfit(
    tensor: Filled, known: Mapping[int, Filled], consumers: Mapping[int, list[Filled]]
) -> Misfit | None:
    if tensor.op is None or tensor.kind in SAME_SCALE_KINDS | _FIXED:
        return None  # other tensors determine the range
    if wasteful(tensor.codes, tensor.range, tensor.reach):
        return next(_behind(tensor, tensor, known, consumers, {tensor.tensor}), None)
    return _swallowed(tensor, known) if tensor.kind in _IN_FLOAT else None


def _behind(
    wide: Filled,
    at: Filled,
    known: Mapping[int, Filled],
    consumers: Mapping[int, list[Filled]],
    seen: set[int],
) -> Iterator[Misfit]:
    """Yield the operators after a tensor that may need its range, the nearest first."""
    for consumer in consumers.get(at.tensor, ()):
        if consumer.tensor in seen or consumer.op is None:
            continue
        seen.add(consumer.tensor)
        copies = consumer.kind in SAME_SCALE_KINDS
        sentinel = _sentinel(consumer, at, wide.range, known)
        if sentinel is not None and _alike(consumer.range, wide.range):
            yield _because(wide, wide.reach, consumer, sentinel)
        elif copies and not wasteful(consumer.codes, wide.range, consumer.reach):
            continue  # another branch fills the shared range
        elif copies:
            yield from _behind(wide, consumer, known, consumers, seen)
        elif _took_its_buffer(consumer, wide.range):
            yield _because(wide, wide.reach, consumer, None)


def _took_its_buffer(consumer: Filled, width: float) -> bool:
    """Return whether an operator may have filled a range by writing into its input's buffer."""
    fills = 2 * consumer.reach >= consumer.range
    same = _alike(consumer.range, width) or _alike(consumer.reach, width)
    return consumer.kind in _AMPLIFYING and fills and same


def _swallowed(tensor: Filled, known: Mapping[int, Filled]) -> Misfit | None:
    """Return the loss of an operand of a sum or choice to a sentinel in the same output."""
    for index in tensor.reads:
        operand = known.get(index)
        if operand is None or not wasteful(tensor.codes, tensor.range, operand.reach):
            continue
        if tensor.kind in CHOOSING and _alike(operand.range, tensor.range):
            continue  # the loss is at the operator that writes the operand
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
    """Return the sentinel that an operator combines with values and that fills a range."""
    if op.kind not in _MARKING - {"MUL"}:
        return None  # it inserts no values: a factor is not a sentinel
    found = list(op.marks)
    for index in op.reads:
        other = known.get(index)
        if other is not None and other is not values:
            found += _masks(other, known)
    return next((m for m in found if _alike(abs(m), width)), None)


def _masks(tensor: Filled, known: Mapping[int, Filled]) -> Iterator[float]:
    """Yield the sentinel of a mask: the constant it was made from, or its own largest value."""
    while tensor.kind in SAME_SCALE_KINDS and len(tensor.reads) == 1 and tensor.reads[0] in known:
        tensor = known[tensor.reads[0]]
    if _is_mask(tensor, known):
        made = [m for m in tensor.marks if _alike(abs(m), tensor.reach)]
        yield from made or (tensor.reach,)


def _is_mask(tensor: Filled, known: Mapping[int, Filled]) -> bool:
    """Return whether a tensor holds two values because its inputs do.

    A tensor with only two codes left by a wide range is not a mask.
    """
    return tensor.two_valued and all(_is_mask(known[i], known) for i in tensor.reads if i in known)


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _ALIKE * max(one, other)
