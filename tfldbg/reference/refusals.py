"""The messages of TensorFlow's converter in plain words, for models that it refuses."""

from __future__ import annotations

import re

from tfldbg.errors import KerasError

_FIXED_BATCH = "requires element_shape to be static"
_NO_INTEGER = re.compile(r"Quantization (?:to 16x8-bit )?not yet supported for op: '(\w+)'")
_NO_COUNTERPART = re.compile(r"^(?:TF Select ops|Flex ops|Custom ops): (.+)$", re.MULTILINE)
_ERROR = re.compile(r"error: (?:loc\(.*\): )?(.+)")
_LONGEST = 300

_OTHER_TYPE = "--type dynamic leaves the activations float; or replace the layer"


def needs_fixed_batch(said: str) -> bool:
    """Return whether the converter refused a loop only because the batch size is dynamic."""
    return _FIXED_BATCH in said


def conversion_error(name: str, type_name: str, said: str) -> KerasError:
    """Return the error for a message of the converter.

    Args:
        name: The name of the model.
        type_name: The type of the conversion.
        said: The converter's message, often many lines of MLIR.
    """
    reason, hint = _reason(type_name, said)
    return KerasError(f"the converter refused '{name}' as {type_name}: {reason}", hint=hint)


def _reason(type_name: str, said: str) -> tuple[str, str]:
    if needs_fixed_batch(said):
        return (
            "the loop of a recurrent layer needs a fixed batch size, and the model leaves it free",
            "give the input a batch size (keras.Input(..., batch_size=1)) or the layer "
            "unroll=True, and save the model again",
        )
    without = _NO_INTEGER.search(said)
    if without:
        return f"it has no {type_name} form of the operator {without[1]}", _OTHER_TYPE
    kernels = _NO_COUNTERPART.search(said)
    if kernels:
        return (
            f"TFLite has no operator for TensorFlow's {kernels[1].strip()}",
            "replace the layer that uses it",
        )
    return _first_line(said), "see what the message names; another --type may do without it"


def _first_line(said: str) -> str:
    found = _ERROR.search(said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    line = found[1] if found else lines[0] if lines else "it gave no reason"
    return line[:_LONGEST]


def crash(name: str, type_name: str, how: str, said: str, *, loops: bool) -> KerasError:
    """Return the error for a crash of the converter's process.

    Args:
        name: The name of the model.
        type_name: The type of the conversion.
        how: The signal or exit code.
        said: The text that the process wrote to stderr.
        loops: True if the model contains a loop, on which the calibrator is known to crash.
    """
    words = [line.strip() for line in said.splitlines() if _fatal(line)]
    last = f"; it said: {words[-1][:_LONGEST]}" if words else ""
    reason = "; the model holds a loop (a recurrent layer), which it cannot calibrate"
    hint = "another --type may not crash it (dynamic, float32)"
    if loops:
        hint = "build the layer with unroll=True and save the model again; or --type dynamic"
    return KerasError(
        f"the converter crashed ({how}) on '{name}' as {type_name}{last}{reason if loops else ''}",
        hint=hint,
    )


def _fatal(line: str) -> bool:
    """Return whether a line of stderr may explain why a process ended."""
    return bool(re.match(r"F\d{4} |LLVM ERROR|.*(Check failed|Assertion|Error: )", line))
