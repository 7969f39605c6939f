"""Compare two recordings of the same model, without the model."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, get_args

from tfldbg.against.parts.two_recordings import TwoCaptures, relate
from tfldbg.against.recording import TRAITS, other_file
from tfldbg.diagnose.bounds import Bound, BoundRule
from tfldbg.diagnose.collect import Described, evidence_of
from tfldbg.diagnose.evidence import Run
from tfldbg.diagnose.locate import diagnose
from tfldbg.errors import UsageError
from tfldbg.files import sha256_of_path
from tfldbg.match.two_captures import Node, put_side_by_side
from tfldbg.options.judge import Thresholds
from tfldbg.progress import Progress, Silent
from tfldbg.reference.capture import Capture, Recorded, open_capture
from tfldbg.session.result import Trace
from tfldbg.version import VERSION

if TYPE_CHECKING:
    from tfldbg.compare.tally import Measured


def diff(
    reference: Path | str,
    tested: Path | str,
    *,
    samples: int | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Find the first operator that differs between two recordings on equal inputs.

    Args:
        reference: The recording to compare with: ``.h5`` or ``.npz``.
        tested: The recording to judge.
        samples: The largest number of samples, all by default.
        thresholds: The local error that arithmetic explains.
        progress: Receives the progress.

    Raises:
        CaptureError: A file is missing, damaged or not a recording.
        DataError: The recordings are not of the same data.
        MatchError: They have no tensor in common.
        UsageError: ``samples`` is less than one.
    """
    began, progress = perf_counter(), progress or Silent()
    if samples is not None and samples < 1:
        raise UsageError(
            f"invalid value {samples} for --samples: must be at least 1", hint="use --samples 1"
        )
    with ExitStack() as stack:
        one, other = (stack.enter_context(open_capture(Path(p))) for p in (reference, tested))
        progress.stage("matching")
        beside = put_side_by_side(one, other)
        count = min(one.samples, other.samples, samples or one.samples)
        measured = TwoCaptures(one, other, beside).measure(count, progress)
        notes = (
            *other_file(one, other.said("model_sha256")),
            *_sample_notes(one, other),
            *_stream_notes(one, other),
            *beside.notes,
            *_model_needed(one, measured),
        )
        run = replace(
            _describe(one, other, count, notes), timing={"total_s": perf_counter() - began}
        )
    described = [_described(node) for node in beside.written]
    evidence = evidence_of(run, beside.subgraph, described, relate(beside), measured)
    return Trace(evidence, diagnose(evidence, thresholds or Thresholds()))


def _sample_notes(one: Capture, other: Capture) -> tuple[str, ...]:
    if one.samples == other.samples:
        return ()
    return (
        f"'{one.path}' holds {one.samples} samples, but '{other.path}' {other.samples}: the first "
        f"{min(one.samples, other.samples)} are compared",
    )


def _stream_notes(one: Capture, other: Capture) -> tuple[str, ...]:
    steps = (one.stream_steps, other.stream_steps)
    if None in steps or steps[0] == steps[1]:
        return ()
    return (
        f"'{one.path}' was recorded with --steps {steps[0]}, but '{other.path}' with --steps "
        f"{steps[1]}: they differ because the state is reset at other samples",
    )


def _model_needed(one: Capture, measured: Measured) -> tuple[str, ...]:
    """Return a note on how to check operators that never had equal inputs."""
    if measured.accumulated.keys() <= measured.local.keys():
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
        traits=TRAITS,
        reference_path=one.path,
        reference_sha256=sha256_of_path(Path(one.path)),
        runtime=other.said("runtime") or "unknown",
        signature=other.said("signature") or None,
        samples=count,
        data=other.said("data") or one.said("data") or "recorded",
        seed=None,
        observer_identical=True,
        observer_samples=0,
        versions={"tfldbg": VERSION, "python": platform.python_version()},
        timing={},
        notes=(*made, *notes),
        stream_steps=other.stream_steps or one.stream_steps or 1,
    )


def _described(node: Node) -> Described:
    """Return the description of an operator output by the second recording."""
    about = (node.tested.activation, node.operator.inputs, _bound(node.tested))
    return Described(node.operator, node.tensor, *about)


def _bound(recorded: Recorded) -> Bound:
    """Return the bound of an operator output from the facts in a recording.

    Bounds that depend on the weights are unknown, and so is the kind of a 16-bit operator if it was
    not recorded: then the widest rule for such a tensor applies.
    """
    rule: BoundRule = "lsb" if recorded.scale is not None else "float"
    if recorded.rule == "noise":
        rule = "relative"
    elif recorded.rule in get_args(BoundRule):
        rule = recorded.rule  # type: ignore[assignment]
    elif recorded.type == "INT16":
        rule = "table"
    return Bound(rule, recorded.extra_lsb or (0.0,))
