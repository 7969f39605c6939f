"""The right classes of the samples: from a file, an array of the data, or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import DataError
from tfldbg.run.folders import LABELS, picture_files, picture_labels
from tfldbg.run.samples import Samples, read_arrays

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Loaded

_HINT = "--labels takes an array of the --data, a .npy, a .npz with one array, or FILE.npz:KEY"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The right class of every sample, and the model output to compare it with."""

    classes: NDArray[np.int64]
    """(N,) class numbers for all samples of the data, in order."""
    output: int
    """The output tensor with one value per class."""
    count: int
    """The number of classes of the output."""
    source: str
    """The source of the labels."""


def read_labels(
    given: Path | str | NDArray[Any],
    data: DataSource,
    loaded: Loaded,
    samples: Samples,
) -> Labels:
    """Read labels and find the output that they belong to.

    Args:
        given: An array; or a path, the name of an array of ``data``, or ``FILE.npz:KEY``, each with
            a prefix ``OUTPUT=`` to choose another output than the first that fits.
        data: The data as the user gave it, or None.
        loaded: The model.
        samples: The samples of the run.

    Raises:
        DataError: The labels do not exist, or fit neither the samples nor an output.
    """
    if samples.source == "random":
        raise DataError(
            "there is no right class for random samples",
            hint="give the labelled data with --data as well",
        )
    output, where = _split(given, loaded)
    if isinstance(where, np.ndarray):
        source, array = "an array", where
    else:
        source, array = where, _find(where, data, loaded)
    classes, columns = _class_numbers(array, source)
    # If a recording replaces the data, there may be labels for more samples than recorded.
    _check_length(len(classes), samples, exact=data is not None)
    tensor = _output(loaded, output, columns or int(classes.max(initial=0)) + 1, columns)
    labels = Labels(classes, tensor.index, _values(tensor), source)
    _check_range(labels)
    return labels


def _split(
    given: Path | str | NDArray[Any], loaded: Loaded
) -> tuple[Tensor | None, str | NDArray[Any]]:
    """Split off ``OUTPUT=`` if present."""
    if not isinstance(given, (str, Path)):
        return None, np.asarray(given)
    name, equals, rest = str(given).partition("=")
    named = _named_outputs(loaded)
    if equals and name in named:
        return named[name], rest
    return None, str(given)


def _named_outputs(loaded: Loaded) -> dict[str, Tensor]:
    """Return the outputs by all their names, those of the signature first."""
    tensors = loaded.subgraph.tensors
    arguments = loaded.signature.outputs if loaded.signature is not None else {}
    named = {name: tensors[i] for name, i in arguments.items()}
    return named | {tensors[i].name: tensors[i] for i in loaded.subgraph.outputs}


def _find(where: str, data: DataSource, loaded: Loaded) -> NDArray[Any]:
    """Return the array that a name or a path refers to."""
    held = _array_of(data, where)
    if held is not None:
        return held
    path, colon, key = where.rpartition(":")
    if colon and key and Path(path).is_file():
        found = _array_of(path, key)
        if found is None:
            raise DataError(
                f"'{path}' holds no array '{key}'; it holds {_listed(read_arrays(Path(path)))}",
                hint=f"name one of them: --labels '{path}:KEY'",
            )
        return found
    if not Path(where).exists():
        raise DataError(
            f"there are no labels '{where}': {_not_there(where, data, loaded)}", hint=_HINT
        )
    arrays = read_arrays(Path(where))
    if len(arrays) != 1:
        raise DataError(
            f"'{where}' holds {len(arrays)} arrays: {_listed(arrays)}",
            hint=f"choose the one with the labels: --labels '{where}:KEY'",
        )
    return next(iter(arrays.values()))


def _array_of(data: DataSource, key: str) -> NDArray[Any] | None:
    """Return one array of a collection of named ones, or None."""
    if isinstance(data, Mapping):
        return np.asarray(data[key]) if key in data else None
    if not isinstance(data, (str, Path)) or Path(data).suffix == ".npy":
        return None
    if picture_files(Path(data)):
        return picture_labels(Path(data)) if key == LABELS else None
    return read_arrays(Path(data), only=key).get(key)


def _not_there(where: str, data: DataSource, loaded: Loaded) -> str:
    """Return what exists instead, in words."""
    said = "no such file"
    if isinstance(data, (str, Path)) and picture_files(Path(data)):
        said += f"; '{LABELS}' numbers the sub-folders of pictures, where they are in some"
    elif data is not None and not isinstance(data, np.ndarray):
        held = data if isinstance(data, Mapping) else read_arrays(Path(data))
        said += f"; the data holds {_listed(held)}"
    if "=" in where:
        said += f"; the model's outputs are {_listed(_named_outputs(loaded))}"
    return said


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _class_numbers(array: NDArray[Any], source: str) -> tuple[NDArray[np.int64], int | None]:
    """Return class numbers (N,), and the number of classes if the labels are one-hot."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # the format of Keras's data sets
    if array.ndim == 2 and array.dtype.kind in "biuf":
        return array.argmax(1).astype(np.int64), array.shape[1]
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array.astype(np.int64), None
    raise DataError(
        f"the labels '{source}' are {array.shape} {array.dtype}; expected integer class numbers "
        "(samples,) or one-hot rows (samples, classes)",
        hint="class numbers count from 0; save them with labels.astype('int64')",
    )


def _check_length(length: int, samples: Samples, *, exact: bool) -> None:
    if length == samples.held or (not exact and length >= samples.count):
        return
    raise DataError(
        f"there are {length} labels, but {samples.held} samples in '{samples.source}'",
        hint="give one label per sample, in the order of the samples",
    )


def _output(loaded: Loaded, wanted: Tensor | None, classes: int, columns: int | None) -> Tensor:
    """Return the requested output, or the first one with enough classes.

    Args:
        loaded: The model.
        wanted: The requested output, or None.
        classes: The least number of classes in the labels.
        columns: The exact number of classes, if the labels are one-hot.
    """
    tensors = [loaded.subgraph.tensors[i] for i in loaded.subgraph.outputs]
    fitting = [t for t in tensors if _values(t) == columns or (not columns and _values(t) > 1)]
    if wanted is not None and wanted in fitting:
        return wanted
    enough = [t for t in fitting if _values(t) >= classes]
    if wanted is None and (enough or fitting):
        return (enough or fitting)[0]
    shapes = ", ".join(f"'{t.name}' {list(t.shape)}" for t in tensors)
    found = f"output '{wanted.name}' does not have" if wanted is not None else "no output has"
    raise DataError(
        f"{found} one value per class for labels of {classes} classes; the model's outputs: "
        f"{shapes}",
        hint="accuracy needs an output of shape (1, classes); name it with --labels OUTPUT=LABELS",
    )


def _values(tensor: Tensor) -> int:
    """Return the number of classes of an output, 0 if it does not have one value per class."""
    if not (tensor.type.startswith("FLOAT") or tensor.has_codes) or not tensor.shape:
        return 0
    return tensor.shape[-1] if tensor.elements == tensor.shape[-1] else 0


def _check_range(labels: Labels) -> None:
    wrong = (labels.classes < 0) | (labels.classes >= labels.count)
    if wrong.any():
        sample = int(wrong.argmax())
        raise DataError(
            f"the label of sample {sample} is {int(labels.classes[sample])}, but the output has "
            f"{labels.count} classes, 0 to {labels.count - 1}",
            hint="class numbers count from 0; an output with a class for the background counts "
            "that as class 0",
        )
