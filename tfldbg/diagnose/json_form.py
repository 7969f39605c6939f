"""The JSON of format ``tfldbg.trace``: its shape, declared once.

`tfldbg.diagnose.result.Result.to_dict` fills these classes in, and the JSON Schema that ``tfldbg
schema`` prints is made of them: of the types of their fields, and of the docstrings below the
fields, in which None stands for null.  Where JSON holds what the evidence holds, it is the class of
the evidence that is used.  The metadata of a field may say otherwise: ``json`` is its key, None
where JSON does not have it; ``sparse`` leaves the key out where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.accuracy import Accuracy, SideAccuracy
from tfldbg.compare.compounding.shares import Compounding
from tfldbg.compare.constants.checks import WeightCheck
from tfldbg.compare.metrics import Finite
from tfldbg.compare.outputs import OutputStats
from tfldbg.compare.steps import Step
from tfldbg.compare.tally import Split
from tfldbg.compare.worst import WorstSample
from tfldbg.diagnose.evidence import Delegated
from tfldbg.diagnose.model import Code, Confidence, Severity, Signal, Status, Verdict
from tfldbg.graph.query import Role
from tfldbg.options.against import ReferenceKind

_SPARSE = {"sparse": True}


def key_of(declared: Field[Any]) -> str | None:
    """Return the key under which JSON holds a field, None where it does not."""
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
    """Its path; <bytes> where there is none."""
    sha256: str | None
    """Of its content; None where a recording does not tell."""


@dataclass(frozen=True, slots=True)
class ReferenceJson:
    """What a file was compared with."""

    kind: ReferenceKind
    """How it was compared; none: a recording of the file alone."""
    path: str
    """Path of the reference, or what it is."""
    sha256: str | None
    """Of the reference's content, where it is a file."""


@dataclass(frozen=True, slots=True)
class DivergenceJson:
    """An operator that does something other than its reference."""

    op: int
    """The operator's index in the main subgraph of the original file."""
    kind: str
    """The operator's kind, such as CONV_2D."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    signal: Signal
    """What told the difference."""
    message: str
    """What differs and by how much, as the end of a sentence that names the operator."""
    confidence: Confidence
    """certain: compared directly, or twice beyond the bound; likely: less than that; ambiguous:
    another operator, which the message names, may be wrong instead."""
    cause: str | None
    """Code of the finding that explains it; None where no rule does."""


@dataclass(frozen=True, slots=True)
class BrokenJson:
    """An operator output that does not keep to a rule."""

    op: int
    """The operator's index; where loop is set, in the subgraph that it runs."""
    kind: str
    """The operator's kind."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    loop: int | None
    """The operator of the main subgraph, a loop, an IF or a composite, inside which it stands; None
    in the main subgraph."""
    metric: str
    """local or accumulated, a dot and the figure's name; or diverged."""
    found: float | None
    """The operator's figure; None where it is unknown, or where the rule is diverged."""
    limit: float | None
    """The limit; None where the rule is diverged."""
    rule: str
    """The rule as it was written."""
    reason: str | None
    """Why the figure is unknown, or what diverged; None where found says it."""


@dataclass(frozen=True, slots=True)
class GateJson:
    """What came of the rules given with --fail-on and --tolerances."""

    passed: bool
    """Whether every operator keeps to every rule; it decides the exit code."""
    rules: tuple[str, ...]
    """The rules as they were written, those of the file first."""
    broken: tuple[BrokenJson, ...]
    """Every operator output that breaks one, in execution order."""


@dataclass(frozen=True, slots=True)
class HistogramJson:
    """How often the signed error falls between the edges of histogram_edges_lsb."""

    local: tuple[int, ...] | None
    """Counts of the local error; None where there is none."""
    accumulated: tuple[int, ...] | None
    """Counts of the accumulated error; None where there is none."""


@dataclass(frozen=True, slots=True)
class OpJson:
    """One operator output."""

    op: int
    """The operator's index in the main subgraph of the original file. Inside another operator, in
    the subgraph that this one runs."""
    kind: str
    """The operator's kind, such as CONV_2D; a custom operator's own name."""
    tensor: str
    """The tensor's name."""
    tensor_index: int
    """The tensor's index in the same subgraph."""
    scale: float | None
    """The tensor's scale, real units a code; None for float tensors."""
    zero_point: int | None
    """The tensor's zero point."""
    reference: str | None
    """What of the reference computes the same value; None for unmatched tensors."""
    match_rule: str | None
    """Which rule made the match."""
    unmatched_reason: str | None
    """Why there is no counterpart."""
    unchecked_reason: str | None
    """Why there is no local error."""
    status: Status
    """origin: differs by itself; inherited: right by itself, its inputs are not; unchecked: there
    is no local error."""
    parameters: str | None
    """How scale and zero point compare with the reference's: equal, differ, none (the reference
    quantizes nothing here), bypassed, deferred or computed."""
    expected_parameters: tuple[Finite, int] | None
    """Scale and zero point that the reference gives."""
    weights: WeightCheck | None
    """The operator's constants against the reference's; None where it has none or they are not
    comparable."""
    local: TensorStats | None
    """The operator's own error, given the inputs that it really had."""
    accumulated: TensorStats | None
    """The error with both sides running free: its own and what it inherited."""
    split: Split | None
    """Causes of the accumulated error, where the reference is the file's float copy."""
    histogram: HistogramJson | None
    """None without --histograms, --html or --dump, and for float tensors."""


@dataclass(frozen=True, slots=True)
class FindingJson:
    """Something worth telling."""

    code: Code
    """Stable code; tfldbg explain CODE says more."""
    severity: Severity
    """How grave it is."""
    op: int | None
    """The operator that it is about; None where it is about the whole file."""
    tensor: str | None
    """The tensor that it is about."""
    message: str
    """What was found."""
    evidence: Mapping[str, object]
    """The figures behind the message. Its keys depend on the code and may grow."""
    suggestion: str
    """What to do."""


@dataclass(frozen=True, slots=True)
class CoverageJson:
    """How much of a model has a counterpart in the reference."""

    ops: int
    """Operator outputs that hold values of the network."""
    matched: int
    """Those with a counterpart."""
    unmatched: int
    """Those without."""


@dataclass(frozen=True, slots=True)
class ObserverJson:
    """Whether looking at a model changed it."""

    final_outputs_identical: bool
    """Whether the rewritten model's outputs are those of the untouched one, bit for bit."""
    samples: int
    """On how many samples that was checked; 0 where no model ran."""
    repair: str | None
    """What was changed in the untouched model before anything ran, where the runtime refuses the
    user's file; None otherwise."""


@dataclass(frozen=True, slots=True)
class BodyJson:
    """A subgraph that an operator runs, traced by itself."""

    op: int
    """The operator of the main subgraph that runs it."""
    kind: str
    """Its kind: WHILE, IF or STABLEHLO_COMPOSITE."""
    role: Role
    """What the subgraph is to the operator."""
    subgraph: int
    """The subgraph's index, -1 where the operator names none."""
    samples: int
    """How many samples were looked into."""
    steps: int
    """How often it was run, all samples together; a loop's last look at its condition is not
    counted."""
    identical: bool
    """Whether, run by itself, it ends at the values that the operator yields: codes to the bit,
    float values up to another order of sums."""
    unchecked_reason: str | None
    """Why it could not be traced."""
    ops: tuple[OpJson, ...]
    """Its operator outputs; operator and tensor numbers are those of its subgraph."""


@dataclass(frozen=True, slots=True)
class TimingJson:
    """Seconds by stage."""

    load_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Until everything was loaded and matched."""
    reference_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Spent in the reference."""
    stream_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Running and comparing, the reference included."""
    compounding_s: Finite | None = field(default=None, metadata=_SPARSE)
    """Measuring the compounding of errors."""
    total_s: Finite | None = field(default=None, metadata=_SPARSE)
    """All together."""


@dataclass(frozen=True, slots=True)
class SideAccuracyJson(SideAccuracy):
    """What one side gets right."""

    top_1_share: Finite
    """top_1 over samples."""
    top_k_share: Finite
    """top_k over samples."""


@dataclass(frozen=True, slots=True)
class AccuracyJson(Accuracy):
    """The accuracy of every side that is known."""

    sides: tuple[SideAccuracyJson, ...]
    """What each side gets right."""


@dataclass(frozen=True, slots=True)
class TraceJson:
    """The JSON that tfldbg trace, report and diff write with --json.

    What is infinite or undefined is null.
    """

    format: Literal["tfldbg.trace"]
    """Always tfldbg.trace; of tfldbg diff too."""
    format_version: Literal[1]
    """Grows when a key changes its meaning or goes; new keys do not change it."""
    model: ModelJson
    """The traced file."""
    reference: ReferenceJson
    """What it was compared with."""
    runtime: str
    """The kernels that ran: xnnpack, builtin, reference, tf or micro; unknown where a recording
    does not tell."""
    delegate: Delegated | None
    """The external delegate that the runtime asked first; None where there was none."""
    signature: str | None
    """The signature that was run; None for the main subgraph."""
    samples: int
    """How many samples were run."""
    stream_steps: int
    """How many samples in a row are the steps of one stream, over which state is kept; 1 where each
    sample stands alone."""
    data: str
    """Path of the data, arrays, recorded or random."""
    seed: int | None
    """Of random data; None for other data."""
    verdict: Verdict
    """What tfldbg holds of the file."""
    sentence: str
    """The verdict in words."""
    first_divergence: DivergenceJson | None
    """The first operator that differs; None when none does."""
    origins: tuple[int, ...]
    """Every operator that differs by itself, in execution order."""
    gate: GateJson | None
    """None without rules; the verdict then decides the exit code."""
    ops: tuple[OpJson, ...]
    """One entry an operator output of the main subgraph, in execution order."""
    findings: tuple[FindingJson, ...]
    """What explains the verdict first, then everything else worth telling."""
    coverage: CoverageJson
    """How much of the model has a counterpart in the reference."""
    observer: ObserverJson
    """Whether looking at the model changed it."""
    steps: tuple[Step, ...] | None
    """The time steps of a recurrent network; None without --by-step."""
    bodies: tuple[BodyJson, ...]
    """What the loops, branches and composites of the main subgraph run."""
    notes: tuple[str, ...]
    """What could not be done, as a user should know it."""
    timing: TimingJson
    """Seconds."""
    versions: Mapping[str, str]
    """Version by name of what took part: tfldbg, python, ai-edge-litert, numpy, and the framework
    of the reference."""
    outputs: tuple[OutputStats, ...]
    """The final outputs of every side."""
    accuracy: AccuracyJson | None
    """None without --labels."""
    worst: tuple[WorstSample, ...]
    """The samples of --worst, the worst first."""
    histogram_edges_lsb: tuple[Finite, ...] | None
    """The edges of all histograms, LSB; None without --histograms."""
    compounding: Compounding | None
    """None without --compounding."""
