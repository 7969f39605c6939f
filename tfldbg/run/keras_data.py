"""Samples for the inputs of a Keras model, with the same rules as for a .tflite file's inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.model import Graph, Subgraph, Tensor
from tfldbg.run.job import Loaded, check_mapping, prepare_samples
from tfldbg.run.samples import Samples, input_specs

if TYPE_CHECKING:
    from tfldbg.options.run_on import RunOn

BATCH = 32


def keras_samples(
    name: str,
    inputs: Sequence[tuple[str, Sequence[int | None], str]],
    run_on: RunOn,
) -> Samples:
    """Read samples for a Keras model, by default all in the data, or draw random ones.

    Args:
        name: The name of the model in messages.
        inputs: The name, shape and NumPy type of each input, with the batch axis; None is dynamic.
        run_on: The data, the number of samples, the seed and the mapping.

    Raises:
        DataError: The data does not fit the inputs.
        UsageError: ``--input`` names an input that the model does not have.
    """
    loaded = _as_file(name, inputs)
    check_mapping(loaded, run_on)
    if run_on.data is not None and run_on.samples is None:
        run_on = replace(run_on, samples=sys.maxsize)
    return prepare_samples(loaded, run_on)


def _as_file(name: str, inputs: Sequence[tuple[str, Sequence[int | None], str]]) -> Loaded:
    """Return the inputs as those of a .tflite file without operators."""
    tensors = tuple(_tensor(i, *given) for i, given in enumerate(inputs))
    numbers = tuple(range(len(tensors)))
    subgraph = Subgraph(0, "main", tensors, (), numbers, ())
    graph = Graph(memoryview(b""), 3, "", (subgraph,), (), (), ())
    return Loaded(name, graph, subgraph, None, input_specs(subgraph, None))


def _tensor(index: int, name: str, shape: Sequence[int | None], dtype: str) -> Tensor:
    batch, *rest = shape or (None,)
    fixed = (batch or 1, *(d or 1 for d in rest))
    free = (batch or 1, *(d or -1 for d in rest))
    return Tensor(index, name, dtype.upper(), fixed, free, None, 0, False, False)


def single(samples: Samples) -> Iterator[list[NDArray[Any]]]:
    """Yield single samples: one array per input, in the model's types and shapes."""
    for index in range(samples.count):
        yield samples.codes(index)


def batches(samples: Samples, *, fixed: bool) -> Iterator[list[NDArray[Any]]]:
    """Yield up to 32 samples at once, one array (n, ...) per input.

    Args:
        samples: The samples.
        fixed: True if the model only accepts its own batch size, which is one sample here.
    """
    size = 1 if fixed else BATCH
    for start in range(0, samples.count, size):
        rows = [samples.codes(i) for i in range(start, min(start + size, samples.count))]
        yield [np.concatenate(column) for column in zip(*rows, strict=True)]
