"""The runtimes that can compute a model, and the delegates in front of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tfldbg.errors import MissingExtraError, UsageError

LITERT = ("xnnpack", "builtin", "reference")
"""LiteRT's kernel sets: XNNPACK with fallbacks, optimized kernels, reference kernels."""
TENSORFLOW = "tf"
"""The interpreter of the installed TensorFlow, with its default kernels."""
MICRO = "micro"
"""TensorFlow Lite for Microcontrollers, with its reference kernels."""
RUNTIMES = (*LITERT, TENSORFLOW, MICRO)
TRY_ANOTHER = f"try another --runtime ({', '.join(RUNTIMES)})"
"""The hint if a runtime does not accept a file."""
WITH_XNNPACK = frozenset({"xnnpack", TENSORFLOW})
"""The runtimes that pass operators to XNNPACK where possible."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """An external delegate: a shared library that computes operators instead of the runtime."""

    path: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name of the file, for messages."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Kernels:
    """A runtime that computes a model, and optionally a delegate that comes first."""

    runtime: str = "xnnpack"
    delegate: Delegate | None = None

    def __str__(self) -> str:
        """Return the name in messages."""
        with_delegate = f" with {self.delegate.name}" if self.delegate else ""
        return f"{self.runtime}{with_delegate}"

    def check(self) -> None:
        """Check that runtime and delegate exist before a process is started.

        Raises:
            UsageError: The runtime or delegate does not exist, or the runtime has no delegates.
            MissingExtraError: The runtime's package is not installed.
        """
        if self.runtime not in RUNTIMES:
            raise UsageError(
                f"there is no runtime '{self.runtime}'", hint=f"choose one of {', '.join(RUNTIMES)}"
            )
        if self.runtime == MICRO and find_spec("tflite_micro") is None:
            raise MissingExtraError("the runtime 'micro'", "tflite-micro", "micro")
        if self.delegate is None:
            return
        if self.runtime == MICRO:
            raise UsageError(
                "the runtime 'micro' does not support delegates",
                hint=f"leave --delegate out, or choose one of {', '.join((*LITERT, TENSORFLOW))}",
            )
        if not Path(self.delegate.path).is_file():
            raise UsageError(
                f"there is no delegate '{self.delegate.path}'",
                hint="give the path of a shared library: --delegate ./libdelegate.so",
            )


def delegate_of(
    path: str | Path | None, options: Mapping[str, str] | Sequence[str] | None
) -> Delegate | None:
    """Return the requested delegate, or None.

    Args:
        path: The path of the shared library.
        options: The options of the delegate: a mapping, or ``KEY=VALUE`` pairs.

    Raises:
        UsageError: A pair contains no ``=``, a key is given twice, or there are options without a
            delegate.
    """
    pairs = [f"{k}={v}" for k, v in options.items()] if isinstance(options, Mapping) else options
    split = [pair.partition("=") for pair in pairs or ()]
    keys = set()
    for key, equals, value in split:
        if not (key and equals):
            raise UsageError(
                f"the delegate's option '{key}{equals}{value}' is not of the form KEY=VALUE",
                hint="for example --delegate-option cache_dir=/tmp",
            )
        if key in keys:
            raise UsageError(
                f"the delegate's option '{key}' is given twice, and it has one value",
                hint=f"leave one of them out: --delegate-option {key}={value}",
            )
        keys.add(key)
    if path is None:
        if split:
            raise UsageError(
                f"the option '{split[0][0]}' is for a delegate, and there is none",
                hint="name it: --delegate PATH",
            )
        return None
    return Delegate(str(path), tuple((key, value) for key, _, value in split))
