"""The declaration of the JSON of format ``tfldbg.trace``.

`tfldbg.diagnose.result.Result.to_dict` fills these classes in.  The JSON Schema that ``tfldbg
schema`` prints is made from the types of their fields and from the docstrings below the fields, in
which None means null.  Parts that JSON and evidence share are classes of the evidence.  The
metadata of a field may change its JSON: ``json`` is its key, None to leave it out; ``sparse``
leaves the key out if the value is None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.constants.checks import WeightCheck
from tfldbg.compare.metrics import Finite
from tfldbg.compare.outputs import OutputStats
from tfldbg.compare.tally import Split
from tfldbg.diagnose.evidence import Delegated
from tfldbg.diagnose.model import Code, Confidence, Severity, Signal, Status, Verdict
from tfldbg.graph.query import Role
from tfldbg.options.against import ReferenceKind

_SPARSE = {"sparse": True}


def key_of(declared: Field[Any]) -> str | None:
    """Return the JSON key of a field, None if JSON does not hold it."""
    key: str | None = declared.metadata.get("json", declared.name)
    return key


def plain(value: Any) -> Any:
    """Return dataclasses, mappings and tuples as the objects and lists of JSON."""
    if is_dataclass(value):
        found = ((f, key_of(f), getattr(value, f.name)) for f in fields(value))
        return {
            key: plain(inner)
            for declared, key, inner in found
            if key is not None and not ("sparse" in declared.metadata and inner in (None, {}))
        }
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True)
class ModelJson:
    """A traced file."""

    path: str
    """Its path; <bytes> if there is none."""
    sha256: str | None
    """SHA-256 of its content; None if a recording does not hold it."""


@dataclass(frozen=True, slots=True)
class ReferenceJson:
    """The reference of a trace."""

    kind: ReferenceKind
    """The kind of reference; none for a recording of the file alone."""
    path: str
    """The path of the reference, or its description."""
    sha256: str | None
    """SHA-256 of the reference's content, if it is a file."""


@dataclass(frozen=True, slots=True)
class DivergenceJson:
    """An operator that differs from its reference."""

    op: int
    """The operator's index in the main subgraph of the original file."""
    kind: str
    """The operator's kind, such as CONV_2D."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    signal: Signal
    """The kind of difference."""
    message: str
    """The difference and its size, as the end of a sentence that begins with the operator."""
    confidence: Confidence
    """certain: compared directly, or beyond twice the bound; likely: less than that; ambiguous:
    another operator, which the message names, may be wrong instead."""
    cause: str | None
    """The code of the finding that explains it; None if no rule does."""


@dataclass(frozen=True, slots=True)
class BrokenJson:
    """An operator output that breaks a rule."""

    op: int
    """The operator's index; if loop is set, in the subgraph that that operator runs."""
    kind: str
    """The operator's kind."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    loop: int | None
    """The operator of the main subgraph (a loop, an IF or a composite) that contains it; None for
    operators of the main subgraph."""
    metric: str
    """local or accumulated, a dot and the figure's name; or diverged."""
    found: float | None
    """The operator's figure; None if it is unknown, or if the rule is diverged or a code."""
    limit: float | None
    """The limit; None if the rule is diverged or a code."""
    rule: str
    """The rule as it was written."""
    reason: str | None
    """The reason why the figure is unknown, or the difference; None if found gives a figure."""


@dataclass(frozen=True, slots=True)
class GateJson:
    """The outcome of the rules given with --fail-on and --tolerances."""

    passed: bool
    """True if no operator breaks a rule; it decides the exit code."""
    rules: tuple[str, ...]
    """The rules as they were written, those of the file first."""
    broken: tuple[BrokenJson, ...]
    """All operator outputs that break a rule, in execution order."""


@dataclass(frozen=True, slots=True)
class HistogramJson:
    """The counts of the signed error between the edges of histogram_edges_lsb."""

    local: tuple[int, ...] | None
    """The counts of the local error; None if there is none."""
    accumulated: tuple[int, ...] | None
    """The counts of the accumulated error; None if there is none."""


@dataclass(frozen=True, slots=True)
class OpJson:
    """One operator output."""

    op: int
    """The operator's index in the main subgraph of the original file; for operators inside another
    one, in the subgraph that the other one runs."""
    kind: str
    """The operator's kind, such as CONV_2D; a custom operator's own name."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    scale: float | None
    """The tensor's scale, real units per code; None for float tensors."""
    zero_point: int | None
    """The tensor's zero point."""
    reference: str | None
    """The part of the reference that computes the same value; None for unmatched tensors."""
    match_rule: str | None
    """The rule that made the match."""
    unmatched_reason: str | None
    """The reason why there is no counterpart."""
    unchecked_reason: str | None
    """The reason why there is no local error."""
    status: Status
    """origin: the operator itself differs; inherited: the operator is right, but its inputs are
    not; unchecked: there is no local error."""
    parameters: str | None
    """The comparison of scale and zero point with the reference's: equal, differ, none (the
    reference quantizes nothing here), bypassed, deferred or computed."""
    expected_parameters: tuple[Finite, int] | None
    """The scale and zero point of the reference."""
    weights: WeightCheck | None
    """The comparison of the operator's constants with the reference's; None if it has none or they
    cannot be compared."""
    local: TensorStats | None
    """The local error: the operator's error, given the inputs that it really had."""
    accumulated: TensorStats | None
    """The accumulated error, with both sides running free: the operator's own and the inherited
    error."""
    split: Split | None
    """The parts of the accumulated error, if the reference is the file's float copy."""
    histogram: HistogramJson | None
    """The histograms of its errors; None without --histograms, --html or --dump, and for float
    tensors."""


@dataclass(frozen=True, slots=True)
class FindingJson:
    """A finding."""

    code: Code
    """The stable code; tfldbg explain CODE says more."""
    severity: Severity
    """The severity."""
    op: int | None
    """The operator that it is about; None for the whole file."""
    tensor: str | None
    """The tensor that it is about."""
    message: str
    """The finding in words."""
    evidence: Mapping[str, object]
    """The figures of the message. The keys depend on the code and may grow."""
    suggestion: str
    """The suggestion."""


@dataclass(frozen=True, slots=True)
class CoverageJson:
    """The number of operators with and without a counterpart in the reference."""

    ops: int
    """The number of operator outputs that hold values of the network."""
    matched: int
    """The number of those with a counterpart."""
    unmatched: int
    """The number of those without."""


@dataclass(frozen=True, slots=True)
class ObserverJson:
    """The check that observing a model did not change it."""

    final_outputs_identical: bool
    """True if the rewritten model's outputs are those of the untouched one, bit for bit."""
    samples: int
    """The number of samples of this check; 0 if no model ran."""
    repair: str | None
    """The change to the untouched model before anything ran, if the runtime refuses the user's
    file; None otherwise."""


@dataclass(frozen=True, slots=True)
class BodyJson:
    """A subgraph that an operator runs, traced separately."""

    op: int
    """The operator of the main subgraph that runs it."""
    kind: str
    """Its kind: WHILE, IF or STABLEHLO_COMPOSITE."""
    role: Role
    """The role of the subgraph."""
    subgraph: int
    """The subgraph's index, -1 if the operator names none."""
    samples: int
    """The number of samples on which the subgraph was traced."""
    steps: int
    """The number of times that it was run, over all samples; the last evaluation of a loop's
    condition is not counted."""
    identical: bool
    """True if, run separately, it computes the values of the operator: the same codes, and the same
    float values up to another order of sums."""
    unchecked_reason: str | None
    """The reason why it could not be traced."""
    ops: tuple[OpJson, ...]
    """Its operator outputs, with the operator and tensor numbers of its subgraph."""


@dataclass(frozen=True, slots=True)
class TimingJson:
    """The seconds of each stage."""

    load_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Seconds until everything was loaded and matched."""
    reference_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Seconds spent in the reference."""
    stream_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Seconds spent in running and comparing, including the reference."""
    compounding_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Seconds spent in measuring the compounding of errors."""
    total_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Seconds in total."""


@dataclass(frozen=True, slots=True)
class TraceJson:
    """The JSON that tfldbg trace, report and diff write with --json.

    Infinite and undefined values are null.
    """

    format: Literal["tfldbg.trace"]
    """Always tfldbg.trace, also for tfldbg diff."""
    format_version: Literal[1]
    """Increases when a key changes its meaning or is removed; new keys do not change it."""
    model: ModelJson
    """The traced file."""
    reference: ReferenceJson
    """The reference that the file was compared with."""
    runtime: str
    """The kernels that ran: xnnpack, builtin, reference, tf or micro; unknown if a recording does
    not name them."""
    delegate: Delegated | None
    """The external delegate that the runtime used first; None if there was none."""
    signature: str | None
    """The signature that was run; None for the main subgraph."""
    samples: int
    """The number of samples."""
    stream_steps: int
    """The number of consecutive samples that are the steps of one stream, over which state is kept;
    1 if samples are independent."""
    data: str
    """The path of the data, or arrays, recorded or random."""
    seed: int | None
    """The seed of random data; None for other data."""
    verdict: Verdict
    """The verdict about the file."""
    sentence: str
    """The verdict in words."""
    first_divergence: DivergenceJson | None
    """The first operator that differs; None if none does."""
    origins: tuple[int, ...]
    """All operators that are origins, in execution order."""
    gate: GateJson | None
    """The outcome of the rules; None without rules, when the verdict decides the exit code."""
    ops: tuple[OpJson, ...]
    """One entry per operator output of the main subgraph, in execution order."""
    findings: tuple[FindingJson, ...]
    """The findings: first those that explain the verdict, then the others."""
    coverage: CoverageJson
    """The number of operators with and without a counterpart in the reference."""
    observer: ObserverJson
    """The check that observing the model did not change it."""
    bodies: tuple[BodyJson, ...]
    """The subgraphs that the loops, branches and composites of the main subgraph run."""
    notes: tuple[str, ...]
    """Limitations of the run that a user should know."""
    timing: TimingJson
    """The seconds of each stage."""
    versions: Mapping[str, str]
    """The versions by name: tfldbg, python, ai-edge-litert, numpy, and the framework of the
    reference."""
    outputs: tuple[OutputStats, ...]
    """The final outputs of every side."""
