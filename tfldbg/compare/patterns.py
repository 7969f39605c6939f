"""Find the pattern of an operator's error: at the edge, or a factor or constant per channel.

A wrong kernel is wrong in the same way everywhere.  Its results on the operator's inputs are
computed, and the share of the error that they explain is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.compare.trials import run_alone
from tfldbg.graph.query import WEIGHTED, real_constant, stored
from tfldbg.graph.windows import windows
from tfldbg.rewrite.twin import local_model
from tfldbg.run.derived import FLOAT_KERNELS

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.trials import Suspect
    from tfldbg.graph.model import Graph, Subgraph, Tensor
    from tfldbg.rewrite.twin import Computation

Doubles = NDArray[np.float64]
Side = Literal["reference", "traced"]
Wrong = tuple[Literal["scale", "zero_point"], str, "Computation"]
"""The kind, its name, and the operator as such a kernel would compute it."""
EXPLAINS = 0.9
"""The share of the error's energy from which a hypothesis explains it; the rest is rounding, and
values that are clipped."""
_MOST = 0.5
_NOTHING = 1e-300
_SIDES = (("first", "row"), ("last", "row"), ("first", "column"), ("last", "column"))
_IMAGES = 4
"""The dimensions of a batch of images: samples, height, width and channels."""
_WIDEST = 3
"""The number of rows or columns that count as an edge: windows of up to 7 reach so far beyond
it."""
_FEW = 32
"""The number of values from which a pattern is judged: so many do not agree by chance."""
_A_CHANNEL = 4
"""The number of values per channel below which one fitted number explains too much alone."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that explains the error of one operator."""

    op: int
    tensor: int
    kind: Literal["edge", "scale", "zero_point", "factors", "offsets"]
    said: str
    """The pattern, as the end of a sentence."""
    side: Side | None
    """The side that has the pattern: the reference, or the traced file; None if unknown."""
    explained: float
    """The share of the error's energy."""


@dataclass(frozen=True, slots=True, eq=False)
class _Error:
    """The values of both sides of one operator, in real units, clamped to the tensor's range."""

    tensor: Tensor
    wanted: Doubles
    traced: Doubles
    limit: float

    @property
    def energy(self) -> float:
        return _energy(self.wanted - self.traced)

    def side(self, side: Side) -> Doubles:
        return self.wanted if side == "reference" else self.traced

    def inside(self) -> NDArray[np.bool_]:
        """Return the mask of values that are clipped on neither side."""
        affine = self.tensor.affine
        if affine is None:
            return np.ones(self.wanted.shape, np.bool_)
        low, high = affine.real_range(self.tensor.type)
        half = 0.5 * affine.scale
        sides = (self.wanted, self.traced)
        kept: NDArray[np.bool_] = np.logical_and.reduce(
            [(low + half < s) & (s < high - half) for s in sides]
        )
        return kept


def _clamped(tensor: Tensor, values: NDArray[np.float32]) -> Doubles:
    wide, affine = values.astype(np.float64), tensor.affine
    return wide if affine is None else np.clip(wide, *affine.real_range(tensor.type))


def _as_codes(tensor: Tensor, values: NDArray[np.float32]) -> Doubles:
    """Return values rounded to codes as by a kernel, so that an explained error becomes zero."""
    return _clamped(tensor, values if tensor.lsb is None else quant.to_steps(values, tensor.lsb))


def pattern(graph: Graph, subgraph: Subgraph, suspect: Suspect, batch: Batch) -> Pattern | None:
    """Return the pattern that explains an operator's error, preferably one computed from the file.

    Args:
        graph: The traced file.
        subgraph: Its subgraph.
        suspect: The operator.
        batch: The values of its inputs.
    """
    tensor = suspect.tensor
    if suspect.wanted.size != suspect.traced.size:
        return None
    shape = suspect.traced.shape
    sides = [_clamped(tensor, s.reshape(shape)) for s in (suspect.wanted, suspect.traced)]
    error = _Error(tensor, sides[0], sides[1], suspect.limit)
    if not np.isfinite(error.energy) or not error.energy:
        return None
    computed = list(_computed(graph, subgraph, suspect, batch, error))
    if computed:
        return max(computed, key=lambda p: p.explained)
    return _edge(subgraph, suspect, batch, error) or _fitted(suspect, error)


def _computed(
    graph: Graph, subgraph: Subgraph, suspect: Suspect, batch: Batch, error: _Error
) -> Iterator[Pattern]:
    """Yield the wrong kernels that agree with a side with which the right one disagrees."""
    own = suspect.step
    plain = _run(graph, subgraph, [own], batch, error)
    if not plain:
        return
    for wrong in ([*_without_zero_point(subgraph, own)], [*_one_scale(graph, subgraph, own)]):
        made = _run(graph, subgraph, [step for *_, step in wrong], batch, error)
        for (kind, said, _), values in zip(wrong, made, strict=False):
            for side in ("reference", "traced"):
                found = error.side(side)
                unexplained = _energy(plain[0] - found)
                share = 1 - _energy(values - found) / max(unexplained, _NOTHING)
                if share >= EXPLAINS and unexplained >= _MOST * error.energy:
                    yield Pattern(own.op.index, error.tensor.index, kind, said, side, share)


def _run(
    graph: Graph, subgraph: Subgraph, steps: Sequence[Computation], batch: Batch, error: _Error
) -> list[Doubles]:
    """Return the results of variants of one operator on the same inputs, as codes."""
    if not steps:
        return []
    keyed = [
        replace(step, results=dict.fromkeys(step.results, key)) for key, step in enumerate(steps)
    ]
    made = run_alone(local_model(graph, subgraph, keyed), batch, FLOAT_KERNELS)
    shape = error.wanted.shape
    return [_as_codes(error.tensor, v.reshape(shape)) for v in made if v.size == error.wanted.size]


def _energy(values: Doubles) -> float:
    return float(np.square(values).sum())


def _without_zero_point(subgraph: Subgraph, step: Computation) -> Iterator[Wrong]:
    """Yield the operator with the codes of its input taken for values of zero point 0."""
    if step.op.kind not in WEIGHTED:
        return
    index = step.op.inputs[WEIGHTED[step.op.kind][0]]
    feed = step.feeds.get(index)
    if feed is None or feed.quant is None or not feed.zero_point or not feed.has_codes:
        return
    zero = replace(feed, quant=replace(feed.quant, zero_point=np.zeros(1, np.int64)))
    said = (
        f"the zero point {feed.zero_point} of its input is left out, which adds a constant to "
        "each channel: the zero point times the sum of its weights"
    )
    yield "zero_point", said, replace(step, feeds={**step.feeds, index: zero})


def _one_scale(graph: Graph, subgraph: Subgraph, step: Computation) -> Iterator[Wrong]:
    """Yield the operator with the scale of one channel's weights for all of them."""
    if step.op.kind not in WEIGHTED:
        return
    _, place, bias_place, axis = WEIGHTED[step.op.kind]
    weights = stored(subgraph, step.op.inputs[place])
    real = None if weights is None else real_constant(graph, weights)
    if weights is None or real is None or weights.quant is None:
        return
    scales = weights.quant.scale.astype(np.float64)
    if scales.size != real.shape[axis] or np.ptp(scales) == 0:
        return
    scales = np.where(scales > 0, scales, 1.0)  # a channel of zeros is unchanged
    along = [1] * real.ndim
    along[axis] = -1
    for said, scale in _candidates(scales):
        ratio = (scale / scales).astype(np.float32)
        constants = {step.op.inputs[place]: real * ratio.reshape(along)}
        bias = step.op.inputs[bias_place] if bias_place < len(step.op.inputs) else -1
        held = stored(subgraph, bias)
        values = None if held is None else real_constant(graph, held)
        if values is not None and values.size == ratio.size:
            constants[bias] = values * ratio.reshape(values.shape)
        yield "scale", said, replace(step, constants={**step.constants, **constants})


def _candidates(scales: Doubles) -> Iterator[tuple[str, float]]:
    ending = "which multiplies each channel by the ratio of that scale to its own"
    yield f"the weight scale of its first channel is used for all, {ending}", float(scales[0])
    yield f"the weight scale of its last channel is used for all, {ending}", float(scales[-1])
    yield f"the largest weight scale is used for all channels, {ending}", float(scales.max())


def _images(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any] | None:
    """Return (images, height, width, channels) of all samples, None if they are not images."""
    if len(tensor.shape) != _IMAGES or not values.size:
        return None
    if values[0].size == tensor.elements:
        return values.reshape(-1, *tensor.shape[1:])
    return values.reshape(-1, *values.shape[-3:]) if values.ndim > _IMAGES else None


def _edge(subgraph: Subgraph, suspect: Suspect, batch: Batch, error: _Error) -> Pattern | None:
    """Return the pattern of an error at an edge only, None if it is elsewhere too."""
    off = _images(error.tensor, np.abs(error.wanted - error.traced))
    if off is None:
        return None
    wrong = np.asarray((off > error.limit).any((0, 3)))
    margins = _margins(wrong)
    if margins is None:
        return None
    mask = _at_edge(wrong.shape, margins)
    inner = int((~mask).sum()) * off.shape[0] * off.shape[3]
    if inner < _FEW or 2 * int(wrong[mask].sum()) < int(mask.sum()):
        return None
    share = _energy(off[:, mask]) / error.energy
    said = f"only the {_edges(margins)} of its output {'is' if _one(margins) else 'are'} wrong"
    reached = _padded(subgraph, suspect, batch, wrong.shape)
    if reached is not None and all(m <= r for m, r in zip(margins, reached, strict=True)):
        said += ", where its window reaches beyond the input, into the padding"
    return Pattern(suspect.step.op.index, error.tensor.index, "edge", said, None, share)


def _margins(wrong: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the fewest rows and columns at each of `_SIDES` that hold all wrong values."""
    height, width = wrong.shape
    found: list[tuple[int, tuple[int, ...]]] = []
    for count in range(1, len(_SIDES) + 1):
        for sides in itertools.combinations(range(len(_SIDES)), count):
            for sizes in itertools.product(range(1, _WIDEST + 1), repeat=count):
                margins = [0] * len(_SIDES)
                for side, size in zip(sides, sizes, strict=True):
                    margins[side] = size
                fits = margins[0] + margins[1] < height and margins[2] + margins[3] < width
                mask = _at_edge(wrong.shape, tuple(margins))
                if fits and not (wrong & ~mask).any():
                    found.append((int(mask.sum()), tuple(margins)))
        if found:
            return min(found)[1]
    return None


def _at_edge(shape: tuple[int, ...], margins: tuple[int, ...]) -> NDArray[np.bool_]:
    top, bottom, left, right = margins
    mask = np.ones(shape, np.bool_)
    mask[top : shape[0] - bottom, left : shape[1] - right] = False
    return mask


def _one(margins: tuple[int, ...]) -> bool:
    return sum(margins) == 1


def _edges(margins: tuple[int, ...]) -> str:
    """Return the edges in words: ``last row and last column``, ``first 2 rows``."""
    said = []
    for (end, line), size in zip(_SIDES, margins, strict=True):
        if size:
            said.append(f"{end} {line}" if size == 1 else f"{end} {size} {line}s")
    return " and ".join(said)


def _padded(
    subgraph: Subgraph, suspect: Suspect, batch: Batch, counts: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the rows and columns at each of `_SIDES` whose windows reach into padding."""
    op = suspect.step.op
    if op.options.get("padding") != "SAME":
        return None
    place = op.inputs[WEIGHTED[op.kind][0] if op.kind in WEIGHTED else 0]
    given = _images(subgraph.tensors[place], batch.codes.get(place, np.zeros(0)))
    moved = windows(subgraph, op)
    if given is None or not moved:
        return None
    reached: list[int] = []
    for axis, window in enumerate(moved):
        extent, count = given.shape[1 + axis], counts[axis]
        # TFLite, ComputePaddingWithOffset: an odd row or column of padding is at the end.
        before = max((count - 1) * window.stride + window.reach - extent, 0) // 2
        starts = np.arange(count) * window.stride - before
        reached += [int((starts < 0).sum()), int((starts + window.reach > extent).sum())]
    return tuple(reached)


def _fitted(suspect: Suspect, error: _Error) -> Pattern | None:
    """Return the pattern of one fitted number per channel, None if it explains too little."""
    channels = error.wanted.shape[-1]
    sides = [s.reshape(-1, channels) for s in (error.traced, error.wanted)]
    counted = error.inside().reshape(-1, channels)
    if channels < 2 or counted.sum(0).min() < _A_CHANNEL:
        return None
    traced, wanted = (np.where(counted, s, 0.0) for s in sides)
    energy = _energy(wanted - traced)
    if energy < _MOST * error.energy:
        return None  # most of the error is at clipped values
    power = np.square(traced).sum(0)
    factors = (wanted * traced).sum(0) / np.where(power > 0, power, 1.0)
    offsets = (wanted - traced).sum(0) / counted.sum(0)
    hypotheses: Mapping[Literal["factors", "offsets"], tuple[str, Doubles]] = {
        "factors": (
            f"each channel is multiplied by its own factor, {factors.min():.3g} to "
            f"{factors.max():.3g}, as by a wrong scale of the weights",
            traced * factors,
        ),
        "offsets": (
            f"its own constant is added to each channel, {offsets.min():.3g} to "
            f"{offsets.max():.3g}, as by a wrong bias or zero point",
            np.where(counted, traced + offsets, 0.0),
        ),
    }
    for kind, (said, made) in hypotheses.items():
        share = 1 - _energy(wanted - made) / energy
        if share >= EXPLAINS:
            op = suspect.step.op.index
            return Pattern(op, error.tensor.index, kind, said, None, share)
    return None
