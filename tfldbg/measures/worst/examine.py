"""Compare single samples operator by operator, and find where the codes of both sides differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import clamped, fitting
from tfldbg.compare.outputs import OutputStatistics, PairStats, Wanted, sample_errors
from tfldbg.compare.sides import REFERENCE, TFLITE
from tfldbg.compare.stream import Reference, run_batch
from tfldbg.progress import Progress, Silent

if TYPE_CHECKING:
    from tfldbg.compare.tally import Plan
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.run.litert import Runner
    from tfldbg.run.samples import Samples

Arrays = Mapping[int, NDArray[Any]]

_EXCERPT = 8
"""The number of neighbouring elements to show."""
_FLOAT_SHARE = 1e-4
"""The share of a float tensor's largest value by which float32 sums of thousands of terms in
another order may differ, as in the verdict's bound for float outputs."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The difference of one operator output between the two sides in one sample.

    For quantized tensors all values are codes; those of the reference are its real values quantized
    with the tensor's own scale and zero point.  For float tensors they are real values.
    """

    op: int
    """The operator's index in the main subgraph of the original file."""
    kind: str
    """The operator's kind."""
    tensor: int
    """The tensor's index."""
    name: str
    """The tensor's name."""
    codes: bool
    """True if the values are codes."""
    elements: int
    """The number of elements of the tensor."""
    saturated: int
    """The number of elements whose reference value is more than a step beyond the tensor's range,
    where both sides may hold the last code at any distance.  0 for float tensors."""
    differing: int
    """The number of elements whose codes differ; for float tensors, by more than 1e-4 of the
    largest value."""
    largest: float
    """The largest difference: codes, or real units."""
    index: tuple[int, ...]
    """The position of the largest difference in the tensor's own shape."""
    tflite: float
    """The file's value there."""
    reference: float
    """The reference's value there."""
    excerpt_start: int
    """The number of the first element of the excerpt in the flattened tensor."""
    tflite_excerpt: tuple[float, ...]
    """The file's values around the largest difference."""
    reference_excerpt: tuple[float, ...]
    """The reference's values around the largest difference."""


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample in which the final outputs differ most from the reference."""

    sample: int
    """The number of the sample."""
    error: float
    """The largest difference of any final output, real units."""
    error_lsb: float | None
    """The largest difference in LSB of the output, by which samples are ranked; None for float
    outputs."""
    relative: float
    """The largest relative error of any final output."""
    first_difference_op: int | None
    """The first operator, in execution order, whose codes differ at all."""
    first_part_op: int | None
    """The first operator whose codes differ by more than one; in a float model
    ``first_difference_op``."""
    ops: tuple[Parting, ...]
    """The operator outputs that have a counterpart, in execution order."""


def examine(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    reference: Reference | None,
    numbers: tuple[int, ...],
    progress: Progress,
) -> tuple[WorstSample, ...]:
    """Run single samples again on both sides and compare them operator by operator.

    Args:
        plan: As for `tfldbg.compare.stream.stream`.
        samples: The inputs of both sides.
        runner: The instrumented model.
        reference: The reference, None if there is none.
        numbers: The numbers of the samples.
        progress: Receives the progress, sample by sample.

    Raises:
        TfldbgError: A side cannot compute the data that it could compute before.
    """
    if reference is None or not numbers:
        return ()
    found = []
    progress.stage("running the worst samples again", len(numbers))
    for number in numbers:
        found.append(_examined(plan, samples, runner, reference, number))
        progress.advance()
    return tuple(found)


def _examined(
    plan: Plan, samples: Samples, runner: Runner, reference: Reference, number: int
) -> WorstSample:
    # A reference with a fixed batch size gets the batch of the sample; a step of a stream depends
    # on all steps before it.
    size = reference.batch or 1
    start, stop = number - number % size, number - number % size + size
    if samples.stream_steps > 1:
        start, stop = samples.stream_start(number), number + 1
    numbers = range(start, min(stop, samples.count))
    batch = run_batch(plan, samples, runner, numbers, Silent())
    free = fitting(reference.compute(batch).free, batch)
    row = slice(number - start, number - start + 1)
    codes, real, wanted = (
        {i: v[row] for i, v in values.items()} for values in (batch.codes, batch.real, free)
    )
    return compare_sample(plan.subgraph, number, codes, real, wanted)


def compare_sample(
    subgraph: Subgraph, number: int, codes: Arrays, real: Arrays, reference: Arrays
) -> WorstSample:
    """Compare both sides in one sample.

    Args:
        subgraph: The traced subgraph.
        number: The number of the sample.
        codes: The values (1, ...) of the file by tensor: codes if the tensor is quantized.
        real: The values of the file in real units.
        reference: The values (1, ...) of the free-running reference by tensor, real units.
    """
    others = subgraph.non_activations
    ops = tuple(
        _parting(op, subgraph.tensors[i], codes[i][0], reference[i][0])
        for op in subgraph.operators
        for i in op.outputs
        if i in codes and i in reference and i not in others
    )
    judged = [o for o in ops if o.codes] or ops
    most = 1 if any(o.codes for o in ops) else 0.0
    found = sample_errors(subgraph, real, reference)
    error, in_lsb = (float(found[0][0]), found[1]) if found is not None else (0.0, False)
    pairs = _final_pairs(subgraph, real, reference)
    return WorstSample(
        sample=number,
        error=max((p.max_abs for p in pairs), default=0.0),
        error_lsb=error if in_lsb else None,
        relative=max((p.max_relative for p in pairs), default=0.0),
        first_difference_op=next((o.op for o in judged if o.differing), None),
        first_part_op=next((o.op for o in judged if o.differing and o.largest > most), None),
        ops=ops,
    )


def _final_pairs(subgraph: Subgraph, real: Arrays, reference: Arrays) -> list[PairStats]:
    """Return the figures of the final outputs, only those with codes if there are any."""
    finals = OutputStatistics(subgraph, Wanted())
    finals.update(0, {TFLITE: real, REFERENCE: reference})
    outputs = finals.result().outputs
    ranked = [o for o in outputs if o.step is not None and o.pairs] or outputs
    return [pair for output in ranked for pair in output.pairs]


def _parting(op: Operator, tensor: Tensor, found: NDArray[Any], reference: NDArray[Any]) -> Parting:
    codes = tensor.affine is not None
    wanted = _as_codes(tensor, reference)
    with np.errstate(invalid="ignore"):
        off = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).ravel()
    off = np.where(np.isfinite(wanted.ravel()), np.where(np.isnan(off), np.inf, off), 0.0)
    limit = 0.0
    if not codes:
        limit = _FLOAT_SHARE * float(np.abs(wanted).max(initial=0.0, where=np.isfinite(wanted)))
    worst = int(off.argmax())
    largest = float(off[worst])
    start = max(0, min(worst - _EXCERPT // 2, off.size - _EXCERPT))
    shown = slice(start, start + _EXCERPT)
    return Parting(
        op=op.index,
        kind=op.kind,
        tensor=tensor.index,
        name=tensor.name,
        codes=codes,
        elements=off.size,
        saturated=clamped(tensor, reference)[1],
        differing=int((off > limit).sum()),
        largest=int(largest) if codes else largest,
        index=tuple(int(i) for i in np.unravel_index(worst, found.shape)),
        tflite=found.ravel()[worst].item(),
        reference=wanted.ravel()[worst].item(),
        excerpt_start=start,
        tflite_excerpt=tuple(found.ravel()[shown].tolist()),
        reference_excerpt=tuple(wanted.ravel()[shown].tolist()),
    )


def _as_codes(tensor: Tensor, reference: NDArray[Any]) -> NDArray[Any]:
    """Return the reference's values quantized like the tensor, or unchanged if it is float."""
    affine = tensor.affine
    if affine is None:
        return reference
    # NaN has no code, and gets that of 0.
    real = np.nan_to_num(reference.astype(np.float64))
    return affine.quantize(real, tensor.type)
