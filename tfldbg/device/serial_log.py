"""The output of a microcontroller: tensors as lines of text among other lines of the serial port.

    TFLDBG begin
    TFLDBG <sample> <output> <offset> <bytes in hex> <crc>
    TFLDBG end <samples>

or, if the interpreter failed, ``TFLDBG failed: <reason>``.  ``output`` counts the outputs of the
file, ``offset`` the bytes of the tensor before these.  ``crc`` is the CRC-16 of the line's bytes
(polynomial 0x1021, initial value 0xFFFF), four hex digits.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.device.tensors import label, size_of
from tfldbg.errors import CaptureError

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

MARK = "TFLDBG"
BEGIN = f"{MARK} begin"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NUMBER, _BYTE = "([0-9]{1,9})", "[0-9a-fA-F]{2}"
_CHUNK = re.compile(f"{MARK} {_NUMBER} {_NUMBER} {_NUMBER} ((?:{_BYTE})+) ({_BYTE * 2})")
_SAMPLE = re.compile(f"{MARK} {_NUMBER} ")
_END = re.compile(f"{MARK} end {_NUMBER}")
_FAILED = f"{MARK} failed: "
_AGAIN = "record the log again; a slower line or a larger buffer loses fewer characters"


def crc16(content: bytes) -> int:
    """Return the CRC-16 of a line's bytes."""
    return binascii.crc_hqx(content, 0xFFFF)


@dataclass(slots=True)
class _Log:
    """The contents of the lines after the last ``begin``."""

    path: str
    tensors: Sequence[Tensor]
    limit: int | None
    samples: int | None = None
    """The number of samples in the line ``end``, or None before it."""
    chunks: dict[tuple[int, int], dict[int, bytes]] = field(default_factory=dict)
    """The bytes at each offset, by sample and output."""

    def read(self, number: int, text: str) -> None:
        """Read one line that contains the mark."""
        ended = _END.fullmatch(text)
        if ended:
            self.samples = int(ended[1])
            return
        if text.startswith(_FAILED):
            raise CaptureError(
                f"line {number} of '{self.path}': the device says it {text[len(MARK) + 1 :]}",
                hint="try a larger arena, or add operators to the resolver",
            )
        begun = _SAMPLE.match(text)
        if begun and self.limit is not None and int(begun[1]) >= self.limit:
            return
        found = _CHUNK.fullmatch(text)
        if found is None:
            raise self._damaged(number, f"not a line of a recording: {text[:60]!r}")
        sample, output, offset = (int(found[group]) for group in (1, 2, 3))
        content = bytes.fromhex(found[4])
        if crc16(content) != int(found[5], 16):
            raise self._damaged(
                number, f"its bytes have CRC {crc16(content):04x}, expected {found[5]}"
            )
        if output >= len(self.tensors):
            raise CaptureError(
                f"line {number} of '{self.path}' is of output {output}, but the model has "
                f"{len(self.tensors)} outputs",
                hint="give the file that ran with --model",
            )
        placed = self.chunks.setdefault((sample, output), {})
        if placed.setdefault(offset, content) != content:
            raise self._damaged(number, "gives other bytes than a line before it")

    def _damaged(self, number: int, reason: str) -> CaptureError:
        return CaptureError(f"line {number} of '{self.path}' is damaged: {reason}", hint=_AGAIN)


def read_log(path: Path, tensors: Sequence[Tensor], limit: int | None) -> list[list[bytes]]:
    """Return the bytes of every output for each sample.

    Only the lines after the last ``begin`` count, because a board that was reset starts again.

    Args:
        path: The log; lines without the mark and text before it are ignored.
        tensors: The outputs of the file that ran.
        limit: The number of first samples to read, or None for all, which the line ``end`` must
            confirm.

    Raises:
        CaptureError: A line is damaged, or something is missing.
    """
    log = _Log(str(path), tensors, limit)
    for number, text in _marked_lines(path):
        log.read(number, text)
        if log.samples is not None:
            break
    held = 1 + max((sample for sample, _ in log.chunks), default=-1)
    if limit is None and log.samples != held:
        said = "has no line 'TFLDBG end'" if log.samples is None else f"ends with {log.samples}"
        raise CaptureError(
            f"'{path}' is cut off: it {said} and holds lines of {held} samples",
            hint="record it to the end, or import the first whole samples alone: --samples N",
        )
    count = held if limit is None else min(limit, held)
    return [
        [_whole(log, sample, output) for output in range(len(tensors))] for sample in range(count)
    ]


def logged_outputs(path: Path, tensors: Sequence[Tensor]) -> int:
    """Return the number of first tensors that the log holds."""
    found = (_CHUNK.fullmatch(text) for _, text in _marked_lines(path))
    return min(len(tensors), 1 + max((int(chunk[2]) for chunk in found if chunk), default=0))


def _marked_lines(path: Path) -> list[tuple[int, str]]:
    """Return the marked lines after the last ``begin``, with their numbers."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found: list[tuple[int, str]] | None = None
    for number, line in enumerate(lines, 1):
        plain = _ESCAPES.sub("", line).strip()
        if plain.endswith(BEGIN):
            found = []
        elif MARK in plain and found is not None:
            found.append((number, plain[plain.index(MARK) :]))
    if found is None:
        raise CaptureError(
            f"'{path}' holds no line '{BEGIN}', so nothing was recorded",
            hint="call tfldbg_record of the kit's tfldbg_record.h, and log the serial line",
        )
    return found


def _whole(log: _Log, sample: int, output: int) -> bytes:
    """Return the bytes of one tensor, joined from its lines."""
    tensor = log.tensors[output]
    placed: Mapping[int, bytes] = log.chunks.get((sample, output), {})
    content = b""
    for offset in sorted(placed):
        if offset != len(content):
            break
        content += placed[offset]
    size, found = size_of(tensor), sum(map(len, placed.values()))
    if len(content) != size or found != size:
        raise CaptureError(
            f"sample {sample} of '{log.path}' is not whole: output {output}, tensor "
            f"{label(tensor)}, expected {size} bytes, found {found}, "
            f"{min(len(content), size)} of them without a gap",
            hint=_AGAIN if found < size else "give the file that ran with --model",
        )
    return content
