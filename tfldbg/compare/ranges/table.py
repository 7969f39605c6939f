"""Compare a file's parameters with those from data, and find which of them they follow."""

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
    from tfldbg.run.samples import Samples


@dataclass(frozen=True, slots=True)
class RangeTable:
    """The parameters of every activation from two passes over data."""

    data: str
    """The source of the data."""
    samples: int
    by_keras: bool
    """True if a float Keras model ran the float pass instead of the file's float copy."""
    float_pass: Mapping[int, Calibrated]
    """The parameters by tensor."""
    fake_quant_pass: Mapping[int, Calibrated]
    rounds: int
    """The number of runs of the fake-quantized pass over the data."""
    settled: bool
    """True if its last round changed nothing."""
    group: Mapping[int, int]
    """The first tensor of the group that shares parameters, by tensor."""
    free: frozenset[int]
    """The groups that depend on data; the others have fixed parameters."""
    likenesses: tuple[Likeness, ...]
    following: Following
    misfits: Mapping[int, Misfit] = field(default_factory=dict)
    """The ranges that fit other values than the tensor's, by tensor."""

    def depends(self, tensor: int) -> bool:
        """Return whether a tensor's parameters depend on data."""
        return self.group.get(tensor) in self.free


def range_table(
    subgraph: Subgraph,
    sharing: Sharing,
    passes: tuple[Pass, Pass],
    trained: Mapping[int, tuple[float, int]],
    *,
    filled: Sequence[Filled],
    by_keras: bool,
    samples: Samples,
) -> RangeTable:
    """Compare a file's parameters with those of both passes and with trained ones.

    Args:
        subgraph: The file's subgraph.
        sharing: The tensors that share a range.
        passes: The float pass and the fake-quantized pass.
        trained: The scale and zero point of a QAT model's fake-quant, by tensor.
        filled: The values that the float pass saw.
        by_keras: True if a float Keras model ran the float pass.
        samples: The data.
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
        data=samples.source,
        samples=samples.count,
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
    """Return the trained parameters of each group, from its first tensor with a fake-quant."""
    found: dict[int, tuple[float, int]] = {}
    for index, group in sharing.group.items():
        if index in trained:
            found.setdefault(group, trained[index])
    return found


def _scales(found: Pass) -> dict[int, tuple[float, int]]:
    return {i: (p.scale, p.zero_point) for i, p in found.parameters.items()}
