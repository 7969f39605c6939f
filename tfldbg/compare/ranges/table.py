"""A file's parameters beside those that data gives, and which of them they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfldbg.compare.ranges.calibrate import FAKE_QUANT_PASS, FLOAT_PASS, Calibrated, Sharing
from tfldbg.compare.ranges.fit import Filled, Misfit, misfits
from tfldbg.compare.ranges.following import (
    KERAS_PASS,
    TRAINED,
    Following,
    Likeness,
    follow,
    liken,
)

if TYPE_CHECKING:
    from tfldbg.compare.ranges.passes import Pass
    from tfldbg.graph.model import Subgraph


@dataclass(frozen=True, slots=True)
class RangeTable:
    """What two passes over data give every activation."""

    data: str
    """Where the data comes from."""
    samples: int
    by_keras: bool
    """Whether a float Keras model ran the float pass, and not the float copy of the file."""
    float_pass: Mapping[int, Calibrated]
    """By tensor."""
    fake_quant_pass: Mapping[int, Calibrated]
    rounds: int
    """How often the fake-quantized pass ran over the data."""
    settled: bool
    """Whether its last round changed nothing."""
    group: Mapping[int, int]
    """By tensor the first tensor of those that share its parameters."""
    free: frozenset[int]
    """The groups that data has a say in; the others have parameters of their own."""
    likenesses: tuple[Likeness, ...]
    following: Following
    misfits: Mapping[int, Misfit] = field(default_factory=dict)
    """By tensor the ranges that fit other values than these."""

    def depends(self, tensor: int) -> bool:
        """Whether a tensor's parameters depend on data."""
        return self.group.get(tensor) in self.free


def range_table(
    subgraph: Subgraph,
    sharing: Sharing,
    passes: tuple[Pass, Pass],
    trained: Mapping[int, tuple[float, int]],
    *,
    filled: Sequence[Filled],
    by_keras: bool,
    data: str,
    samples: int,
) -> RangeTable:
    """Compare a file's parameters with those of both passes and with trained ones.

    Args:
        subgraph: The file's subgraph.
        sharing: Which tensors have one range.
        passes: The float pass and the fake-quantized pass.
        trained: By tensor scale and zero point of a QAT model's fake-quant, where there is one.
        filled: What the float pass saw.
        by_keras: Whether that model ran the float pass.
        data: Where the data comes from.
        samples: How many samples it has.
    """
    tensors = [subgraph.tensors[i] for i in sharing.free]
    candidates = {
        TRAINED: _by_group(sharing, trained),
        KERAS_PASS if by_keras else FLOAT_PASS: _scales(passes[0]),
        FAKE_QUANT_PASS: _scales(passes[1]),
    }
    found = (liken(source, tensors, candidate) for source, candidate in candidates.items())
    likenesses = tuple(x for x in found if x is not None)
    return RangeTable(
        data=data,
        samples=samples,
        by_keras=by_keras,
        float_pass=passes[0].parameters,
        fake_quant_pass=passes[1].parameters,
        rounds=passes[1].rounds,
        settled=passes[1].settled,
        group=sharing.group,
        free=frozenset(sharing.free),
        likenesses=likenesses,
        following=follow(likenesses),
        misfits=misfits(filled),
    )


def _by_group(
    sharing: Sharing, trained: Mapping[int, tuple[float, int]]
) -> dict[int, tuple[float, int]]:
    """Let the first tensor with a fake-quant speak for those that share its parameters."""
    found: dict[int, tuple[float, int]] = {}
    for index, group in sharing.group.items():
        if index in trained:
            found.setdefault(group, trained[index])
    return found


def _scales(found: Pass) -> dict[int, tuple[float, int]]:
    return {i: (p.scale, p.zero_point) for i, p in found.parameters.items()}
