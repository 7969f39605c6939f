"""Causes in operators that keep a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule, at, listed
from tfldbg.diagnose.words import number

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_FUSED = frozenset({"LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"})
_LARGE = 8.0
"""The steps by which later samples are off at least, while the first agrees to one: kernels that
only round differently do not reach three bits."""

_STATE = Explanation(
    code="TFL033",
    title="The state is not reset between samples",
    severity="error",
    meaning="A model with variables (a streaming or stateful model) carries its state from one "
    "sample to the next. Only the first sample matches a run that resets them.",
    evidence="A file with variables and a recording whose first sample agrees to a step, while "
    "later ones are off by more than eight.",
    suggestion="call reset_all_variables() before each independent sample; resource variables "
    "(VAR_HANDLE) need a new interpreter. If the samples are steps of a stream, say so: --steps N",
    sources=("tensorflow/tensorflow#47813",),
)
_UNROLLED = Explanation(
    code="TFL034",
    title="A fused recurrent operator replaces a loop",
    severity="info",
    meaning="The reference computes the recurrence step by step, the file with one fused operator "
    "that keeps its gates in 16 bits and its state in its own scale. The two are not equal to the "
    "last step, and the values inside the fused operator cannot be compared.",
    evidence="The kind of the operator, in a trace against a Keras model, whose graph has none.",
    suggestion="look at the error along time: tfldbg trace --by-step; for equality, unroll the "
    "layer (unroll=True) before converting",
    sources=("tensorflow/tensorflow#57015",),
)


def _not_reset(judged: Judged) -> Iterator[Sign]:
    run = judged.evidence.run
    stateful = [o for o in judged.evidence.ops if o.stateful]
    if not run.traits.recorded or run.samples < 2 or not stateful:
        return
    wrong = [o for o in judged.evidence.ops if _later_only(o)]
    if wrong:
        first = wrong[0]
        largest = first.accumulated.max_abs if first.accumulated else 0.0
        message = (
            f"sample 0 agrees, later samples are off by up to {number(largest)}; operators "
            f"{listed([o.op for o in stateful])} keep a state from run to run"
        )
        yield at(first, message, stateful=[o.op for o in stateful])


def _later_only(op: OpEvidence) -> bool:
    stats = op.accumulated
    if stats is None:
        return False
    noise = op.scale or 1e-4 * max(stats.reference_max_abs, 1e-6)
    first = stats.first_sample_max_abs
    return first <= noise and stats.max_abs > _LARGE * noise


def _unrolled(judged: Judged) -> Iterator[Sign]:
    if not judged.evidence.run.traits.full_precision:
        return  # other references have the fused operator, too
    for op in judged.evidence.ops:
        if op.kind in _FUSED:
            behind = [o.op for o in judged.evidence.ops if op.op in o.joint]
            checked = op.local is not None or behind
            place = f"together with operator {behind[-1]}" if behind else "by its output alone"
            message = "the reference computes it step by step; it is " + (
                f"checked {place}" if checked else "not checked"
            )
            yield at(op, message, checked_with=behind)


_LOCAL: frozenset[Signal] = frozenset({"local"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (TraceRule(_STATE, _not_reset, _LOCAL), TraceRule(_UNROLLED, _unrolled))
