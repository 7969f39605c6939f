"""The examples that ``--help`` shows below the options of a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[str]] = {
    "trace": (
        "tfldbg trace model.tflite --keras qat.h5 --data data.npz",
        "tfldbg trace model.tflite --keras qat.h5 --data data.npz --html trace.html --dump run.h5",
        "tfldbg trace new.tflite --against good.tflite --fail-on 'local<=1lsb'",
        "tfldbg trace model.tflite --against-runtime reference",
    ),
    "inspect": ("tfldbg inspect model.tflite",),
    "cache": ("tfldbg cache", "tfldbg cache clear"),
    "params": ("tfldbg params model.tflite --keras qat.h5 --data data.npz",),
    "convert": ("tfldbg convert qat.h5 -o model.tflite --type int8 --data data.npz",),
    "diff": ("tfldbg diff desk.h5 phone.npz",),
    "sweep": ("tfldbg sweep 'models/*.tflite' --keras 'keras/{stem}.h5' --csv results.csv",),
    "expose": ("tfldbg expose model.tflite -o exposed.tflite",),
    "dump": ("tfldbg dump model.tflite -o run.h5 --data data.npz --runtime builtin",),
    "report": (
        "tfldbg report run.h5 --html trace.html",
        "tfldbg report run.h5 --quiet --fail-on 'sqnr>=30db'",
    ),
    "kit": (
        "tfldbg kit model.tflite -o kit --data data.npz",
        "tfldbg kit model.tflite -o kit --for micro --data data.npz",
    ),
    "import": ("tfldbg import serial.log --model kit/exposed.tflite -o device.npz",),
    "view": ("tfldbg view model.tflite run.h5",),
    "explain": ("tfldbg explain TFL022",),
    "schema": ("tfldbg schema > trace.schema.json",),
}


def epilog(command: str) -> str | None:
    """Return the examples of a command, each as a paragraph, which ``--help`` shows as a line."""
    examples = EXAMPLES.get(command)
    return "\n\n".join(("Examples:", *(f"  {e}" for e in examples))) if examples else None
