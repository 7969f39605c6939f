"""The preparation of every run: read a model, give its inputs samples, expose its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.errors import ModelError, RunError, UsageError
from tfldbg.graph.limits import check_operands, check_runnable
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.query import choose_signature
from tfldbg.graph.variables import Source, sources
from tfldbg.options.runtimes import MICRO
from tfldbg.rewrite.expose import Exposed, expose, leave_out
from tfldbg.rewrite.pieces import Pieces
from tfldbg.rewrite.separate import separate
from tfldbg.run.drawn import float_range, random_samples
from tfldbg.run.folders import (
    DataContents,
    arrays_of_files,
    pictures,
    refuse_pictures,
    without_scale,
)
from tfldbg.run.litert import Program, check_runs
from tfldbg.run.samples import (
    InputSpec,
    Samples,
    choose,
    input_specs,
    read_arrays,
    takes_real,
)

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Signature, Subgraph, Tensor
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource

DEFAULT_SAMPLES = 64
ALL_SAMPLES = 2**31
"""The limit for measuring a range, which depends on two extreme values in any of the samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A .tflite file that has been read, with the chosen subgraph."""

    path: str
    graph: Graph
    """The file, or the copy of it from `separate`."""
    subgraph: Subgraph
    signature: Signature | None
    specs: tuple[InputSpec, ...]
    untouched: Graph | None = None
    """The file itself, if ``graph`` is such a copy."""

    @property
    def data(self) -> memoryview:
        """The bytes of the user's file."""
        return (self.untouched or self.graph).data


def load(model: ModelSource, signature: str | None = None) -> Loaded:
    """Read a .tflite file and choose a subgraph.

    Raises:
        ModelError: The file is missing or not a .tflite file.
        UsageError: It has no such signature.
    """
    path = "<bytes>" if isinstance(model, bytes) else str(model)
    content = model if isinstance(model, bytes) else read_file(Path(model))
    graph, untouched = load_graph(content, path), None
    copy = separate(graph)
    if copy is not None:
        graph, untouched = load_graph(copy, path), graph
    if not graph.subgraphs:
        raise ModelError(
            f"'{path}' holds no subgraph, so there is nothing to run and nothing to expose",
            hint="give the .tflite file that the converter wrote",
        )
    subgraph, chosen = choose_signature(graph, signature)
    check_operands(subgraph, path)
    return Loaded(path, graph, subgraph, chosen, input_specs(subgraph, chosen), untouched)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A run with a model and samples that is ready to start."""

    loaded: Loaded
    samples: Samples
    exposed: Exposed
    run_on: RunOn

    @property
    def subgraph(self) -> Subgraph:
        """The subgraph that runs."""
        return self.loaded.subgraph

    @property
    def instrumented(self) -> Program:
        """The rewritten model with all readable tensors as taps."""
        program = self._program(self.exposed.content, self.exposed.taps)
        return replace(program, states=self.states)

    @property
    def states(self) -> tuple[int, ...]:
        """The variables to read; none if they are reset before every sample."""
        return self.subgraph.states if self.samples.stream_steps > 1 else ()

    @property
    def sources(self) -> Mapping[int, Source]:
        """The source of each read of a resource variable in streams; empty without streams."""
        return sources(self.loaded.graph, self.subgraph) if self.samples.stream_steps > 1 else {}

    @property
    def original(self) -> Program:
        """The user's file, repaired if necessary, with the readable outputs as taps."""
        outputs = [i for i in self.subgraph.outputs if i in self.exposed.taps]
        repaired, untouched = self.exposed.repair, self.loaded.untouched
        data = self.loaded.graph.data if repaired is None else repaired.data
        program = self._program(Pieces((data,)), tuple(outputs))
        if untouched is None or repaired is not None:
            return program
        return replace(
            program,
            content=Pieces((untouched.data,)),
            subgraph=untouched.subgraphs[self.subgraph.index],
            taps=self.in_untouched(outputs),
        )

    def in_untouched(self, outputs: Sequence[int]) -> tuple[int, ...]:
        """Return the tensors that hold the given outputs in the user's own file."""
        if self.loaded.untouched is None:
            return tuple(outputs)
        own = self.loaded.untouched.subgraphs[self.subgraph.index].outputs
        return tuple(own[self.subgraph.outputs.index(i)] for i in outputs)

    def _program(self, content: Pieces, taps: tuple[int, ...]) -> Program:
        return Program(
            name=self.loaded.path,
            content=content,
            kernels=self.run_on.kernels,
            subgraph=self.subgraph,
            taps=taps,
            signature=self.loaded.signature,
            resources=self.loaded.graph.keeps_resources,
            shapes=self.samples.shapes,
        )

    @property
    def values(self) -> int:
        """The number of values that all tensors hold over all samples."""
        computed = (t.elements for t in self.subgraph.tensors if not t.has_data)
        return self.samples.count * sum(max(count, 0) for count in computed)

    @property
    def readable(self) -> frozenset[int]:
        """The tensors whose values are known, and are numbers."""
        tensors = self.subgraph.tensors
        given = (i for i in self.subgraph.inputs if tensors[i].type != "STRING")
        return frozenset((*self.exposed.taps, *given))

    @property
    def skipped(self) -> dict[int, str]:
        """The reason why a tensor cannot be read, by tensor."""
        return {s.tensor: s.reason for s in self.exposed.skipped}


def prepare(
    model: ModelSource,
    run_on: RunOn,
    unread: Mapping[int, str] = MappingProxyType({}),
) -> Job:
    """Read a model, give its inputs samples, and expose its tensors.

    Args:
        model: The file.
        run_on: The data, and the runtime.
        unread: The reason for each tensor that is not to be read.

    Raises:
        ModelError: The file is missing or not a .tflite file.
        RunError: It has no operator, or keeps constants in other files.
        DataError: The data does not fit the inputs.
        UsageError: An option asks for something that does not exist.
    """
    run_on.kernels.check()
    loaded = load(model, run_on.signature)
    check_runs(loaded.subgraph, loaded.path)
    check_runnable(loaded.graph, loaded.subgraph, loaded.path)
    _check_whole(loaded)
    check_mapping(loaded, run_on)
    _check_streams(loaded, run_on)
    samples = prepare_samples(loaded, run_on)
    exposed = leave_out(expose(loaded.graph, loaded.subgraph), unread)
    return Job(loaded, samples, exposed, run_on)


def _check_streams(loaded: Loaded, run_on: RunOn) -> None:
    if run_on.runtime == MICRO and run_on.steps > 1 and loaded.subgraph.states:
        raise UsageError(
            f"'{loaded.path}' keeps its state in variables, which the runtime '{MICRO}' does not "
            "show: operators that use them from step to step cannot be checked",
            hint="leave --steps out, or choose another --runtime",
        )


def _check_whole(loaded: Loaded) -> None:
    """Check that the file holds its own constants: interpreters do not load other files."""
    if loaded.graph.beside:
        names = ", ".join(f"'{name}'" for name in loaded.graph.beside)
        raise RunError(
            f"'{loaded.path}' keeps constants in other files ({names}), which the interpreter does "
            "not load",
            hint="convert the model into one file, however large; this one can be inspected",
        )


def check_mapping(loaded: Loaded, run_on: RunOn) -> None:
    """Check that ``--input`` only names inputs that the model has.

    Raises:
        UsageError: There is no such input.
    """
    names = {name for spec in loaded.specs for name in spec.names}
    unknown = sorted(set(run_on.inputs) - names)
    if unknown:
        held = ", ".join(f"'{spec.label}'" for spec in loaded.specs)
        raise UsageError(
            f"the model has no input '{unknown[0]}'; it has {held or 'none'}",
            hint=f"for example --input '{loaded.specs[0].label}=KEY'"
            if loaded.specs
            else "leave --input out",
        )


def prepare_samples(loaded: Loaded, run_on: RunOn) -> Samples:
    """Read samples for the model's inputs, or draw random ones.

    Raises:
        DataError: The data does not fit the inputs.
    """
    data, steps = run_on.data, run_on.steps
    limit = run_on.samples or -(-DEFAULT_SAMPLES // steps) * steps  # whole streams
    if data is None:
        if run_on.scale is not None:
            raise UsageError("--scale needs data, but none is given", hint="add --data PATH")
        found = random_samples(loaded.subgraph, loaded.specs, count=limit, seed=run_on.seed)
        return replace(found, stream_steps=steps)
    given = _given(loaded, run_on, limit)
    source = str(data) if isinstance(data, (str, Path)) else "arrays"
    found = choose(
        loaded.specs,
        given.arrays,
        source,
        limit=limit,
        mapping=run_on.inputs,
        scale=run_on.scale,
    )
    held = given.held or found.held
    return replace(found, held=held, notes=(*given.notes, *found.notes), stream_steps=steps)


def _given(loaded: Loaded, run_on: RunOn, limit: int) -> DataContents:
    """Return the contents of the data, up to the limit for folders with one file per sample."""
    data, specs = run_on.data, loaded.specs
    if isinstance(data, Mapping):
        return DataContents({k: np.asarray(v) for k, v in data.items()})
    if not isinstance(data, (str, Path)):
        return DataContents({specs[0].label if specs else "x": np.asarray(data)})
    if len(specs) != 1:
        refuse_pictures(Path(data), len(specs))
        return DataContents(read_arrays(Path(data)))
    found = pictures(Path(data), specs[0], limit)
    if found is None:
        if not run_on.inputs:  # they name one of the files
            found = arrays_of_files(Path(data), specs[0], limit)
        return found or DataContents(read_arrays(Path(data)))
    tensor = specs[0].tensor
    if run_on.scale is None and tensor.type != "UINT8" and takes_real(tensor):
        raise without_scale(str(data), specs[0], _input_range(loaded, tensor))
    return found


def _input_range(loaded: Loaded, tensor: Tensor) -> tuple[float, float]:
    """Return the real range of an input, with equal ends if the file does not state it."""
    if tensor.affine is None:
        return float_range(loaded.subgraph, tensor)
    return tensor.affine.real_range(tensor.type)
