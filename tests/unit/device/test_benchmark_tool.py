"""The files that benchmark_model writes: cut into tensors, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.device.test_serial_log import OTHER, ROW, tensors
from tfldbg.device.benchmark_tool import leading_outputs, read_dumps, run_script
from tfldbg.errors import CaptureError, UsageError


def _folder(path: Path, *contents: bytes) -> Path:
    path.mkdir()
    for number, content in enumerate(contents):
        (path / f"{number:05d}.bin").write_bytes(content)
    return path


def test_the_outputs_follow_one_another(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "outputs", b"".join(ROW), b"".join(OTHER))
    assert list(read_dumps(folder, tensors(), None)) == [ROW, OTHER]
    assert list(read_dumps(folder, tensors(), 1)) == [ROW]
    assert leading_outputs(folder, tensors()) == 3
    assert leading_outputs(_folder(tmp_path / "untouched", ROW[0]), tensors()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"".join(ROW)[:72], "tensor 11 't1': expected 3 bytes, found 2; 72 bytes in all, "
                             "expected 81"),
        (b"".join(ROW) + b"x", "has 82 bytes, expected 81 for the 3 outputs"),
        (b"", "tensor 10 't0': expected 70 bytes, found 0"),
    ],
)  # fmt: skip
def test_a_size_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        list(read_dumps(_folder(tmp_path / "outputs", content), tensors(), None))
    assert words in caught.value.message and "00000.bin" in caught.value.message


def test_a_missing_sample_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "outputs", *[b"".join(ROW)] * 3)
    (folder / "00001.bin").unlink()
    with pytest.raises(CaptureError, match=r"sample 1: expected '00001\.bin', found '00002\.bin'"):
        list(read_dumps(folder, tensors(), None))
    with pytest.raises(CaptureError, match="holds no sample"):
        list(read_dumps(_folder(tmp_path / "empty"), tensors(), None))


def test_a_scalar_input_is_refused() -> None:
    with pytest.raises(UsageError, match="is a scalar"):
        run_script(tensors()[:1], [()], 1)
