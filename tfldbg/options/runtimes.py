"""The runtimes that can compute a model, and the delegate that may stand in front of one."""

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
"""As a hint where one runtime does not take a file."""
WITH_XNNPACK = frozenset({"xnnpack", TENSORFLOW})
"""Runtimes that leave to XNNPACK what it takes."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """An external delegate: a shared library that takes operators over from the runtime."""

    path: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Kernels:
    """Who computes a model: a runtime, and perhaps a delegate that it asks first."""

    runtime: str = "xnnpack"
    delegate: Delegate | None = None

    def __str__(self) -> str:
        """How messages call it."""
        with_delegate = f" with {self.delegate.name}" if self.delegate else ""
        return f"{self.runtime}{with_delegate}"

    def check(self) -> None:
        """Refuse what is not here, before a process is started for it.

        Raises:
            UsageError: There is no such runtime or delegate, or the runtime takes no delegate.
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
                "the runtime 'micro' takes no delegates",
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
    """Return the delegate that a user asks for, None for none.

    Args:
        path: Of the shared library.
        options: What it is given: a mapping, or ``KEY=VALUE`` pairs.

    Raises:
        UsageError: A pair holds no ``=``, a key is given twice, or there are options and no
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
