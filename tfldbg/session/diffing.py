"""Compare two recordings of the same model; no model at hand."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, get_args

from tfldbg import __version__
from tfldbg.against.recording import other_file
from tfldbg.compare.against.two_captures import Difference, Sides, compare_captures, sides
from tfldbg.diagnose.bounds import Bound, Rule
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence, Run
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.scales import same
from tfldbg.errors import UsageError
from tfldbg.files import sha256_of_path
from tfldbg.match.two_captures import Node, SideBySide, put_side_by_side
from tfldbg.options.judge import Thresholds
from tfldbg.progress import Progress, Silent
from tfldbg.reference.capture import Capture, open_capture
from tfldbg.session.result import Trace

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Diagnosis, Status


def diff(
    reference: Path | str,
    tested: Path | str,
    *,
    samples: int | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Find the first operator whose output differs between two recordings though its inputs do not.

    Args:
        reference: The recording that is right: ``.h5`` or ``.npz``.
        tested: The recording to judge.
        samples: At most so many samples, all by default.
        thresholds: How much of an operator's own error arithmetic explains.
        progress: Is told how far the work is.

    Raises:
        CaptureError: A file is missing, damaged or no recording.
        DataError: The recordings are not of the same data.
        MatchError: They have no tensor in common.
        UsageError: ``samples`` is less than one.
    """
    began, progress = perf_counter(), progress or Silent()
    if samples is not None and samples < 1:
        raise UsageError(f"{samples} samples are too few", hint="ask for at least one: --samples 1")
    with ExitStack() as stack:
        one, other = (stack.enter_context(open_capture(Path(p))) for p in (reference, tested))
        progress.stage("matching")
        beside = put_side_by_side(one, other)
        count = min(one.samples, other.samples, samples or one.samples)
        found = compare_captures(one, other, beside, count, progress)
        notes = (
            *other_file(one, other.said("model_sha256")),
            *_sample_notes(one, other),
            *_stream_notes(one, other),
            *beside.notes,
            *_model_needed(one, beside, found),
        )
        run = replace(
            _describe(one, other, count, notes), timing={"total_s": perf_counter() - began}
        )
    evidence = _evidence(run, beside, found)
    diagnosis = diagnose(evidence, thresholds or Thresholds())
    return Trace(evidence, _with_inherited(evidence, diagnosis))


def _sample_notes(one: Capture, other: Capture) -> tuple[str, ...]:
    if one.samples == other.samples:
        return ()
    return (
        f"'{one.path}' holds {one.samples} samples, '{other.path}' {other.samples}: the first "
        f"{min(one.samples, other.samples)} are compared",
    )


def _stream_notes(one: Capture, other: Capture) -> tuple[str, ...]:
    steps = (one.stream_steps, other.stream_steps)
    if None in steps or steps[0] == steps[1]:
        return ()
    return (
        f"'{one.path}' was recorded with --steps {steps[0]}, '{other.path}' with --steps "
        f"{steps[1]}: a state that is reset at other places makes them differ",
    )


def _model_needed(
    one: Capture, beside: SideBySide, found: Mapping[int, Difference]
) -> tuple[str, ...]:
    """Say how to look at operators that never had equal inputs."""
    if all(found[n.key].local is not None for n in beside.written if n.key in found):
        return ()
    return (
        "operators whose inputs differ in every sample can be checked with the model: tfldbg trace "
        f"MODEL.tflite --against {one.path}",
    )


def _describe(one: Capture, other: Capture, count: int, notes: tuple[str, ...]) -> Run:
    runtime = one.said("runtime")
    made = (f"the reference was recorded under the {runtime} runtime",) if runtime else ()
    return Run(
        model_path=other.path,
        model_sha256=other.said("model_sha256"),
        reference_kind="capture",
        reference_path=one.path,
        reference_sha256=sha256_of_path(Path(one.path)),
        runtime=other.said("runtime") or "unknown",
        signature=other.said("signature") or None,
        samples=count,
        data=other.said("data") or one.said("data") or "recorded",
        seed=None,
        observer_identical=True,
        observer_samples=0,
        versions={"tfldbg": __version__, "python": platform.python_version()},
        timing={},
        notes=(*made, *notes),
        stream_steps=other.stream_steps or one.stream_steps or 1,
    )


def _evidence(run: Run, beside: SideBySide, found: Mapping[int, Difference]) -> Evidence:
    labels = {n.key: n.tensor.label for n in (*beside.inputs, *beside.written)}
    incomparable = frozenset(n.key for n in beside.written if isinstance(sides(n), str))
    return Evidence(
        run=run,
        inputs=tuple(_input_evidence(n, beside) for n in beside.inputs),
        ops=tuple(_op_evidence(n, found.get(n.key), labels, incomparable) for n in beside.written),
    )


def _input_evidence(node: Node, beside: SideBySide) -> InputEvidence:
    parameters, expected = _parameters(node)
    return InputEvidence(
        tensor=node.key,
        name=node.tensor.label,
        scale=node.tensor.scale,
        zero_point=node.tensor.zero_point,
        parameters=parameters or "none",
        expected=expected,
        first_reader=next((n.op for n in beside.written if node.key in n.reads), None),
    )


def _op_evidence(
    node: Node, found: Difference | None, labels: Mapping[int, str], incomparable: frozenset[int]
) -> OpEvidence:
    parameters, expected = _parameters(node)
    pair = sides(node)
    units = pair.tested if isinstance(pair, Sides) else node.tensor
    local = found.local if found else None
    return OpEvidence(
        op=node.op,
        kind=node.kind,
        tensor=node.key,
        name=node.tensor.label,
        type=node.tensor.type,
        scale=found.lsb if units.scale is None and found else units.scale,
        zero_point=units.zero_point,
        activation=node.tensor.activation,
        reads=node.reads,
        weighted=False,
        reference=node.counterpart.label if node.counterpart else None,
        match_rule=node.rule,
        match_confidence=1.0 if node.counterpart else 0.0,
        unmatched_reason=node.reason,
        parameters=parameters,
        expected=expected,
        bound=_bound(node),
        joint=(),
        local=local,
        local_reason=None if local else _blind(node, pair, labels, incomparable),
        accumulated=found.accumulated if found else None,
        split=None,
        nan=0,
        shape=node.tensor.shape,
        expected_shape=None,
        weights=None,
        breaches=(),
    )


def _parameters(node: Node) -> tuple[str | None, tuple[float, int] | None]:
    """Compare what both recordings say about scale and zero point."""
    mine, other = node.tensor, node.counterpart
    if other is None:
        return None, None
    if None in (mine.scale, other.scale) or other.scale is None or mine.scale is None:
        return "none", None
    if mine.type != other.type:
        return "none", None
    equal = same(mine.scale, other.scale) and mine.zero_point == other.zero_point
    return "equal" if equal else "differ", (other.scale, other.zero_point or 0)


def _bound(node: Node) -> Bound:
    """Return what arithmetic explains, as far as the recording tells which operator it is.

    Bounds that rest on the weights are not at hand, nor is the kind of a 16-bit operator where
    nobody recorded it: then the widest rule for such a tensor holds.
    """
    rule: Rule = "lsb" if node.tensor.scale is not None else "float"
    if node.tensor.rule == "noise":
        rule = "relative"
    elif node.tensor.rule in get_args(Rule):
        rule = node.tensor.rule  # type: ignore[assignment]
    elif node.tensor.type == "INT16":
        rule = "table"
    return Bound(rule, node.tensor.extra_lsb or (0.0,))


def _blind(
    node: Node, pair: Sides | str, labels: Mapping[int, str], incomparable: frozenset[int]
) -> str:
    """Say why an operator's own error is not known."""
    if isinstance(pair, str):
        return pair
    if node.unrecorded:
        return f"its input tensor {node.unrecorded[0]} is not in both recordings"
    blind = next((key for key in node.reads if key in incomparable), None)
    if blind is not None:
        return f"its input '{labels[blind]}' cannot be compared"
    read = f"its input '{labels[node.reads[0]]}'" if len(node.reads) == 1 else "what it reads"
    return f"{read} differs in every sample"


def _with_inherited(evidence: Evidence, diagnosis: Diagnosis) -> Diagnosis:
    """Mark what lies behind an origin and differs: its inputs were never equal."""
    tainted: set[int] = set()
    statuses: list[Status] = []
    for op, status in zip(evidence.ops, diagnosis.statuses, strict=True):
        behind = any(key in tainted for key in op.reads)
        if status == "origin" or behind:
            tainted.add(op.tensor)
        differs = op.accumulated is not None and op.accumulated.max_abs > 0
        statuses.append("inherited" if behind and differs and status == "unchecked" else status)
    return replace(diagnosis, statuses=tuple(statuses))
