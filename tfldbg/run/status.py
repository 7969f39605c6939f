"""What a process does at the moment, in memory that it shares with the one that started it."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO

import numpy as np

_SIZE = 4096
_NUMBERS = 3
_BEAT, _SAMPLE, _DONE = range(_NUMBERS)
_WORDS = 64
"""Where the words begin."""


class Status:
    """A page of memory with the work of a process.

    Args:
        descriptor: The descriptor of a file that both processes hold open, of `status_file`.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _SIZE)
        self._numbers = np.frombuffer(self._map, np.int64, _NUMBERS)

    @property
    def running(self) -> int | None:
        """A number that is another one for every run of a model, None between runs."""
        beat = int(self._numbers[_BEAT])
        return beat if beat % 2 else None

    @property
    def sample(self) -> int:
        """The number of the sample that it computes."""
        return int(self._numbers[_SAMPLE])

    @property
    def done(self) -> int:
        """The number of samples that it has measured since it was started."""
        return int(self._numbers[_DONE])

    @property
    def words(self) -> str:
        """What the last model that ran did."""
        raw: bytes = self._map[_WORDS:]
        return raw.partition(b"\0")[0].decode(errors="replace")

    def begin(self, words: bytes) -> None:
        """Say that a model begins to load or to run.

        Args:
            words: What it does, of `words_for`.
        """
        self._map[_WORDS : _WORDS + len(words) + 1] = words + b"\0"
        self._numbers[_BEAT] |= 1

    def end(self) -> None:
        """Say that the model has loaded or run."""
        self._numbers[_BEAT] += self._numbers[_BEAT] % 2

    def compute(self, sample: int) -> None:
        """Say which sample the process begins to compute."""
        self._numbers[_SAMPLE] = sample

    def advance(self, count: int) -> None:
        """Count measured samples."""
        self._numbers[_DONE] += count


def status_file() -> IO[bytes]:
    """Return a nameless file for a `Status`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    os.truncate(file.fileno(), _SIZE)
    return file


def words_for(text: str) -> bytes:
    """Return words in the form of `Status.begin`, cut to what fits."""
    return text.encode()[: _SIZE - _WORDS - 1]


_own: Status | None = None
_MEASURING: ContextVar[bool] = ContextVar("measuring", default=False)


def share_status(descriptor: int) -> None:
    """Share the status of this process from now on; see `may_end`."""
    global _own
    _own = Status(descriptor)


def may_end() -> bool:
    """Return whether this process may end at any time, because others do its work again then."""
    return _own is not None


@contextmanager
def measuring() -> Iterator[None]:
    """Run models in this process inside the block if it may end: a kernel that crashes ends it."""
    token = _MEASURING.set(True)
    try:
        yield
    finally:
        _MEASURING.reset(token)


def own_status() -> Status | None:
    """Return the status of this process if it runs models itself.

    Other processes must run models in processes of their own.
    """
    return _own if _MEASURING.get() else None
