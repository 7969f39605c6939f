"""Quantization parameters side by side; nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfldbg.compare.constants import Holder
from tfldbg.compare.parameters import (
    ParameterTable,
    expected_by_file,
    parameter_table,
    tensor_rows,
    weight_rows,
)
from tfldbg.compare.relate_files import relate_files
from tfldbg.match.files import pair_file_inputs
from tfldbg.match.matcher import match
from tfldbg.match.ports import pair_inputs
from tfldbg.progress import Progress, Silent
from tfldbg.reference.keras import load_frozen
from tfldbg.run.job import Loaded, ModelSource, Options, check_mapping, load


def compare_parameters(
    model: ModelSource,
    *,
    keras: Any = None,
    against: ModelSource | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> ParameterTable:
    """Put a file's quantization parameters beside its reference's, without running either.

    Args:
        model: Path or bytes of the .tflite file.
        keras: The Keras model, as for `trace`.
        against: Another .tflite, as for `trace`.
        options: As for `trace`; samples and runtime do not matter.
        progress: Is told how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file or the options; the message says what.
    """
    options, progress = options or Options(), progress or Silent()
    loaded = load(model, options.signature)
    check_mapping(loaded, options)
    if keras is not None:
        return _with_keras(loaded, keras, options, progress)
    if against is not None:
        return _with_file(loaded, load(against, options.signature), options)
    return parameter_table(loaded.graph, loaded.subgraph, None, None)


def _with_keras(loaded: Loaded, keras: Any, options: Options, progress: Progress) -> ParameterTable:
    progress.stage("loading the Keras model")
    source = Path(keras) if isinstance(keras, str) else keras
    frozen = load_frozen(source, unsafe=options.unsafe, signature=options.signature)
    progress.stage("matching")
    inputs = pair_inputs(loaded.specs, frozen, options.inputs)
    matching = match(loaded.subgraph, loaded.signature, frozen, inputs)
    return parameter_table(loaded.graph, loaded.subgraph, frozen, matching)


def _with_file(loaded: Loaded, good: Loaded, options: Options) -> ParameterTable:
    numbers = pair_file_inputs(loaded.specs, good.specs, options.inputs)
    traced, reference = (Holder(side.graph, side.subgraph) for side in (loaded, good))
    everything = [frozenset(range(len(s.subgraph.tensors))) for s in (loaded, good)]
    related = relate_files(traced, reference, numbers, everything[0], everything[1])
    tensors = loaded.subgraph.tensors
    expected = {
        mine: expected_by_file(tensors[mine], good.subgraph.tensors[other])
        for mine, other in related.values.items()
    }
    return ParameterTable(
        tensors=tensor_rows(loaded.subgraph, expected),
        weights=weight_rows(loaded.subgraph, {}, related.relation.checks),
        referenced=True,
    )
