"""The files to copy to a device: the exposed model, the untouched one, samples, and a script."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.device.benchmark_tool import input_file, run_script
from tfldbg.device.micro_header import record_header
from tfldbg.device.record import array_keys
from tfldbg.errors import UsageError

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

TARGETS = ("board", "android", "micro")

Sample = Sequence[NDArray[Any]]


def kit_files(
    target: str,
    exposed: bytes,
    untouched: bytes,
    inputs: Sequence[Tensor],
    samples: Sequence[Sample],
) -> dict[str, bytes]:
    """Return the files of a kit by their paths inside it.

    Args:
        target: One of `TARGETS`.
        exposed: The model whose tensors are all outputs.
        untouched: The original model.
        inputs: The inputs of the model.
        samples: One array per input for each sample, in the model's types.

    Raises:
        UsageError: The target does not exist, or does not accept these inputs.
    """
    if target not in TARGETS:
        raise UsageError(
            f"there is no kit for '{target}'", hint=f"choose one of {', '.join(TARGETS)}"
        )
    if not inputs:
        raise UsageError(
            "the model has no inputs, so there are no samples to put into a kit",
            hint="use tfldbg expose, and record its outputs yourself (docs/recording.md)",
        )
    strings = next((t for t in inputs if t.type == "STRING"), None)
    if strings is not None:
        raise UsageError(
            f"input '{strings.name}' takes strings, which a kit cannot hold",
            hint="use tfldbg expose, and record its outputs yourself (docs/recording.md)",
        )
    common = {
        "exposed.tflite": exposed,
        "model.tflite": untouched,
        "inputs.npz": _archive(inputs, samples),
    }
    runs = {"board": _board, "android": _android, "micro": _micro}[target]
    return {**common, **runs(inputs, samples)}


def _archive(inputs: Sequence[Tensor], samples: Sequence[Sample]) -> bytes:
    keys = array_keys({tensor.index: tensor.name for tensor in inputs})
    content = io.BytesIO()
    # numpy.savez does not accept an array with the name "file".
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, tensor in enumerate(inputs):
            with archive.open(f"{keys[tensor.index]}.npy", "w") as member:
                stacked = np.stack([sample[place] for sample in samples])
                np.lib.format.write_array(member, stacked, allow_pickle=False)
    return content.getvalue()


def _board(inputs: Sequence[Tensor], samples: Sequence[Sample]) -> dict[str, bytes]:
    del inputs, samples
    return {"record.py": (files("tfldbg.device") / "record.py").read_bytes()}


def _android(inputs: Sequence[Tensor], samples: Sequence[Sample]) -> dict[str, bytes]:
    script = run_script(inputs, [array.shape for array in samples[0]], len(samples))
    raw = {
        input_file(number, place): array.tobytes()
        for number, sample in enumerate(samples)
        for place, array in enumerate(sample)
    }
    return {"run.sh": script.encode(), **raw}


def _micro(inputs: Sequence[Tensor], samples: Sequence[Sample]) -> dict[str, bytes]:
    del inputs
    rows = [b"".join(array.tobytes() for array in sample) for sample in samples]
    if len({len(row) for row in rows}) > 1:
        raise UsageError(
            "the samples have different sizes, which a microcontroller kit does not support",
            hint="give samples of the model's own input shape",
        )
    return {"tfldbg_record.h": record_header(rows).encode()}
