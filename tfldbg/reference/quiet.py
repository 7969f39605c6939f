"""Import and use TensorFlow without its banners on the user's terminal."""

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
"""Calls within calls: some ten times the layers of the deepest models, far from the stack's end."""


@contextmanager
def quiet() -> Iterator[None]:
    """Send everything written to the process's stderr to a file that is thrown away.

    TensorFlow's native code writes there directly, so replacing ``sys.stderr`` is not enough.
    Errors still arrive: as exceptions.  TensorFlow is imported first, where it is not yet.
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
            with collecting_later():
                import_module("tensorflow")
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        logger.setLevel(level)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for reference cycles that nobody uses afterwards, not meanwhile.

    While libraries are imported and models are built there are few, and looking for them again and
    again takes a quarter of the time.
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
    """Let Keras load a model of many layers: it walks them one call deeper for each."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
