"""Import and use TensorFlow without its messages on the user's terminal."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

_DEEPEST = 10_000
"""The limit of nested calls: about ten times the layers of the deepest models, within the stack."""


@contextmanager
def quiet() -> Iterator[None]:
    """Import TensorFlow, if it is not yet, and suppress its messages inside the block."""
    with silent():
        with collecting_later():
            import_module("tensorflow")
        yield


@contextmanager
def silent() -> Iterator[None]:
    """Send everything that is written to the process's stderr to a temporary file.

    TensorFlow's native code writes there directly, so replacing ``sys.stderr`` is not enough.
    Errors are still raised as exceptions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    logger = logging.getLogger("tensorflow")
    level = logger.level
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        logger.setLevel(level)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Pause the garbage collector for reference cycles.

    Importing libraries and building models leaves few cycles, and searching for them repeatedly
    takes a quarter of the time.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def deep_calls() -> Iterator[None]:
    """Raise the recursion limit for models of many layers, which Keras visits recursively."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
