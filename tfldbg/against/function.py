"""A user's function as the reference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfldbg.against.opened import Bench, Kind, Opened
from tfldbg.against.parts.float_copies import FloatCopies, float_copies
from tfldbg.against.recording import TRAITS, open_recording
from tfldbg.compare.batch import Batch, Computed, in_real_units
from tfldbg.errors import UsageError
from tfldbg.files import scratch_folder
from tfldbg.options.against import EMULATIONS
from tfldbg.plugins import REFERENCES, load_plugin, plugin_names
from tfldbg.reference.function import FunctionRecorder, Given

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.options.against import Against
    from tfldbg.options.sources import ReferenceFunction
    from tfldbg.run.job import Job

_AT_ONCE = 32
"""The number of samples per call of the function."""


def _check(against: Against) -> None:
    """Check that the function exists, before a file is read.

    Raises:
        UsageError: It does not exist, or is not a function.
        PluginError: It cannot be loaded.
    """
    _function(against)


def _function(against: Against) -> tuple[str, ReferenceFunction]:
    """Return the name of the function in reports, and the function."""
    reference = against.reference
    if isinstance(reference, str):
        if ":" not in reference and reference not in plugin_names(REFERENCES):
            raise UsageError(
                f"there is no reference '{reference}'",
                hint=f"choose one of {', '.join(EMULATIONS)}, or a function as "
                "package.module:function; leave --reference out to trace the file against its own "
                "float arithmetic",
            )
        return reference, load_plugin(REFERENCES, reference)
    if not callable(reference):
        raise UsageError(
            f"the reference is of type {type(reference).__name__}, expected a function or a name",
            hint="give a model or a file with keras= or against=",
        )
    return getattr(reference, "__qualname__", type(reference).__qualname__), reference


def _open(bench: Bench) -> Opened:
    """Call the function on all samples, and compare the results like a recording.

    That judges an operator only if both sides compute the same: float operators with float weights,
    and tensors that the function returns as codes.  Float results for quantized tensors or weights
    differ by their rounding and more.  Such operators, and those that cannot be run on the
    function's values, are checked against their own float arithmetic instead.

    Raises:
        PluginError: The function fails.
        MatchError: Too few of the results have a counterpart in the file.
    """
    job = bench.job
    name, function = _function(bench.against)
    if not job.subgraph.inputs:
        raise UsageError(
            f"'{job.loaded.path}' has no inputs to call the reference '{name}' with",
            hint="record it instead, and compare with --against RUN.h5",
        )
    with ExitStack() as undo:
        # The results are kept in a temporary file, since they may not fit into memory.
        path = undo.enter_context(scratch_folder()) / "reference.h5"
        recorder = FunctionRecorder(name, function, job.subgraph)
        recorder.record(_batches(job), path)
        opened = open_recording(bench, path, name)
        folder = undo.pop_all()
        undo.callback(folder.close)
        undo.callback(opened.reference.close)
        copies, relation = float_copies(job, bench.first), opened.relation
        left, refused = _left_to(copies, relation, recorder.floats), copies.relation.reasons
        reasons = {**relation.reasons, **{i: refused[i] for i in left if i in refused}}
        related = replace(relation, reasons=reasons, own=frozenset(left))
        own = copies.reference(None)
        undo.pop_all()
    return Opened(
        replace(opened.about, sha256=None),
        related,
        _Both(opened.reference, own, related.own, folder),
        (*opened.notes, *_notes(name, job, left)),
    )


def _notes(name: str, job: Job, left: Sequence[int]) -> tuple[str, ...]:
    """Return a note on the operators that the function does not check."""
    own = tuple(dict.fromkeys(job.subgraph.producers[i].index for i in left))
    if not own:
        return ()
    listed = ", ".join(map(str, own[:8])) + (", ..." if len(own) > 8 else "")
    return (
        f"'{name}' cannot judge operators {listed}, which are checked against their own float "
        "arithmetic; only their accumulated error is against it",
    )


def _left_to(copies: FloatCopies, relation: Relation, floats: Collection[str]) -> tuple[int, ...]:
    """Return the tensors that only float copies can check.

    Args:
        copies: The float copies.
        relation: The relation of the file to the function's values.
        floats: The tensors that the function returned as floats.
    """
    subgraph, matches = copies.job.subgraph, relation.matching.matches
    others = subgraph.non_activations
    return tuple(
        i
        for op in subgraph.operators
        for i in op.outputs
        if i not in others
        and (
            i not in matches
            or i in relation.reasons
            or (matches[i].node in floats and not _float_alone(subgraph, op))
        )
    )


class _Both:
    """The recorded values, with float copies of the operators that they cannot judge.

    It can be pickled; the copy leaves the recording where it is.
    """

    batch: int | None = None
    in_batches = True

    def __init__(
        self, recorded: Reference, own: Reference, left: frozenset[int], folder: ExitStack
    ) -> None:
        self._recorded, self._own, self._left = recorded, own, left
        self._folder: ExitStack | None = folder

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_folder": None}

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch."""
        recorded, own = self._recorded.compute(batch), self._own.compute(batch)
        local = {i: v for i, v in recorded.local.items() if i not in self._left}
        local |= {i: v for i, v in own.local.items() if i in self._left}
        tested = {i: v for i, v in recorded.tested.items() if i not in self._left}
        return replace(recorded, local=local, tested=tested)

    def close(self) -> None:
        """Close both, and delete the recording."""
        with self._folder or nullcontext():
            self._recorded.close()
            self._own.close()


def _float_alone(subgraph: Subgraph, op: Operator) -> bool:
    """Return whether nothing of an operator was ever rounded to fewer bits than float32."""
    for index in (*op.inputs, *op.outputs):
        if index < 0:
            continue
        tensor, producer = subgraph.tensors[index], subgraph.producers.get(index)
        quant = tensor.quant
        rounded = quant is not None and (quant.scale.size or quant.scale_tensor is not None)
        if rounded or tensor.type == "FLOAT16":
            return False
        if producer is not None and producer.kind == "DEQUANTIZE":
            return False
    return True


def _batches(job: Job) -> Iterator[Given]:
    """Yield the samples for both sides: the function gets the rounded inputs of the file.

    It gets one whole stream at a time.
    """
    steps = job.samples.stream_steps
    size = steps if steps > 1 else _AT_ONCE
    tensors = [job.subgraph.tensors[i] for i in job.subgraph.inputs]
    for start in range(0, job.samples.count, size):
        stop = min(start + size, job.samples.count)
        rows = [job.samples.codes(number) for number in range(start, stop)]
        codes = [np.stack(column) for column in zip(*rows, strict=True)]
        arrays = {}
        for spec, tensor, array in zip(job.loaded.specs, tensors, codes, strict=True):
            one = tensor.shape[:1] == (1,)  # the tensor's own batch
            shaped = array.reshape(len(array), *array.shape[2:]) if one else array
            quantized = tensor.lsb is not None
            # The function may write to its arrays, and the codes are recorded.
            arrays[spec.label] = in_real_units(tensor, shaped) if quantized else shaped.copy()
        yield Given(start, arrays, dict(zip(job.subgraph.inputs, codes, strict=True)))


KIND = Kind(TRAITS, _open, check=_check)
