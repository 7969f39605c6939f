"""What files may claim: bombs, links, filters and pickles are refused before they are read."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tfldbg import guard
from tfldbg.errors import CaptureError, DataError
from tfldbg.guard import RefusedError
from tfldbg.reference.capture import open_capture
from tfldbg.run.samples import read_arrays
from tfldbg.store.reader import read_evidence

HUGE = 1 << 60


def _npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + content


def _claiming(shape: object, dtype: str = "<f4") -> bytes:
    return _npy(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n", b"1234")


class _Code:
    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._mark,)


def _pickled(mark: Path) -> bytes:
    return _npy(
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", pickle.dumps(_Code(mark))
    )


ARRAYS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": _pickled,
    "2^60 elements": lambda _: _claiming((HUGE,)),
    "2^120 elements": lambda _: _claiming((HUGE, HUGE)),
    "a negative size": lambda _: _claiming((-1,)),
    "sizes that are no numbers": lambda _: _claiming("('a',)"),
    "a type of 2^30 bytes": lambda _: _claiming((2,), "|V1073741824"),
    "a header that claims 4 GB": lambda _: b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "a deeply nested header": lambda _: _npy("(" * 9000 + ")" * 9000),
    "a header that is code": lambda mark: _npy(f"__import__('os').mkdir({str(mark)!r})"),
    "another version": lambda _: b"\x93NUMPY\x09\x00",
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_hostile_arrays_are_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    mark = tmp_path / "ran"
    content = ARRAYS[kind](mark)
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(CaptureError):
            open_capture(path)
    with pytest.raises(DataError, match="cannot read the data"):
        read_arrays(path)
    assert not mark.exists()


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "machine_memory", lambda: 2 << 20)


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, method: int) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(1 << 21, np.uint8))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("x.npy", content.getvalue())
    assert (tmp_path / "x.npz").stat().st_size < 1 << 13
    with pytest.raises(DataError, match="more than half of this machine's memory"):
        read_arrays(tmp_path / "x.npz")


def test_a_member_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    """The check of sizes rests on this."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", b"\0" * 100_000)
    raw = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(raw.replace(struct.pack("<I", 100_000), struct.pack("<I", 9)))
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert len(archive.read("x")) <= 9


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "..\\x", "a\\..\\..\\x", "C:\\x", "C:x", "\\\\a\\b\\x"]
)
def test_names_that_lead_out_of_a_folder_are_seen(name: str) -> None:
    assert guard.leaves_folder(name)
    assert not guard.leaves_folder("model.weights.h5") and not guard.leaves_folder("assets/a..b/.")


def test_arrays_are_read_and_never_unpacked_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["../../out", "/out", "x:0", "a/b;c"]
    (tmp_path / "in" / "here").mkdir(parents=True)
    path = tmp_path / "in" / "here" / "x.npz"
    np.savez(path, **dict.fromkeys(names, np.arange(3)))
    assert sorted(read_arrays(path)) == sorted(names)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "here", "x.npz"]


# HDF5


def _external(file: Any) -> None:
    file["x"] = h5py.ExternalLink("secret.h5", "/x")


def _external_below(file: Any) -> None:
    file.create_group("a/b")["c"] = h5py.ExternalLink("secret.h5", "/x")


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (4,))
    file.create_virtual_dataset("x", layout)


def _raw(file: Any) -> None:
    file.create_dataset("x", (4,), "u1", external=[("secret.bin", 0, 4)])


def _empty(file: Any) -> None:
    file.create_dataset("x", (1 << 50,), "u1", chunks=(1 << 10,), compression="gzip")


def _contiguous(file: Any) -> None:
    file.create_dataset("x", (1 << 40, 1 << 10), "f4")


def _wide(file: Any) -> None:
    file.create_dataset("x", (1 << 40,), np.dtype(("V", 1 << 20)), chunks=(1,))


def _filtered(file: Any) -> None:
    kind = h5py.h5t.NATIVE_FLOAT
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())  # Blosc
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"x", kind, space, dcpl=properties)


HDF5: dict[str, tuple[Callable[[Any], None], str]] = {
    "a link to another file": (_external, "is a link"),
    "one deep inside": (_external_below, "'/a/b/c' is a link"),
    "a virtual dataset": (_virtual, "lie in other files"),
    "raw values of another file": (_raw, "lie in other files"),
    "2^50 bytes that are not there": (_empty, "no compression does that"),
    "2^52 bytes that are not there": (_contiguous, "no compression does that"),
    "a type of a megabyte": (_wide, "no compression does that"),
    "a filter that is a library": (_filtered, "filter 32001"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hostile_hdf5_is_refused_everywhere(tmp_path: Path, kind: str) -> None:
    change, message = HDF5[kind]
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.arange(4, dtype=np.float32)
    (tmp_path / "secret.bin").write_bytes(b"1234")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("tensors/00001")["values"] = np.zeros((2, 3), np.float32)
        change(file)
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path / "x.h5")
    with pytest.raises(CaptureError, match=message):
        open_capture(tmp_path / "x.h5")
    with pytest.raises(CaptureError, match=message):
        read_evidence(tmp_path / "x.h5")


def _with_texts(path: Path, count: int) -> bytes:
    with h5py.File(path, "w") as file:
        file.create_group("tensors/00001")["values"] = np.zeros((2, 3), np.float32)
        for number in range(count):
            file.attrs[f"text {number}"] = "x" * number
    return path.read_bytes()


def test_a_heap_that_hdf5_never_leaves_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    content = bytearray(_with_texts(path, 1))
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)
    path.write_bytes(content)
    for read, error in ((read_arrays, DataError), (open_capture, CaptureError)):
        with pytest.raises(error, match="free space of size 0"):
            read(path)
    with pytest.raises(CaptureError, match="free space of size 0"):
        read_evidence(path)


@pytest.mark.parametrize("count", [0, 1, 63, 300])
def test_sound_heaps_and_values_that_spell_their_name_pass(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.h5"
    _with_texts(path, count)
    with h5py.File(path, "a") as file:
        file["word"] = np.frombuffer(b"GCOL" + bytes(60) + b"GCOL\x01\0\0\0", np.uint8)
    with open_capture(path) as capture:
        assert capture.samples == 2


@pytest.mark.usefixtures("small_machine")
def test_values_that_fill_the_memory_are_refused_where_they_are_read_whole(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        values = np.zeros((1 << 11, 1 << 10), np.uint8)
        file.create_group("tensors/00001").create_dataset(
            "values", data=values, chunks=(16, 1 << 10), compression="gzip"
        )
    with pytest.raises(DataError, match="its datasets would take 2,097,152 bytes"):
        read_arrays(tmp_path / "x.h5")
    with open_capture(tmp_path / "x.h5") as capture:  # read by single samples
        assert capture.samples == 1 << 11
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_group("tensors/00001").create_dataset(
            "values", data=values, chunks=values.shape, compression="gzip"
        )
    with pytest.raises(CaptureError, match="one piece of '/tensors/00001/values' would take"):
        open_capture(tmp_path / "y.h5")


def test_groups_may_hold_themselves_and_links_may_lead_nowhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.arange(3)
        file.create_group("a")["again"] = file["/"]
        file["loop"] = h5py.SoftLink("/loop")
        file["nowhere"] = h5py.SoftLink("/b/c")
        guard.check_hdf5(file)


def test_references_and_text_are_no_code(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.arange(3)
        file.create_dataset("text", data=["a", "b"])
        file.create_dataset("to", data=[file["x"].ref], dtype=h5py.ref_dtype)
    assert list(read_arrays(tmp_path / "x.h5")) == ["x"]


# JSON


def test_deep_json_is_refused() -> None:
    with pytest.raises(RefusedError, match="nested too deeply"):
        guard.parse_json("[" * 200_000)


def test_a_recording_with_deep_json_is_no_recording(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("tensors/00001")["values"] = np.zeros((2, 3), np.float32)
        file["evidence"] = '{"run":' * 100_000
        file.attrs.update(format="tfldbg.run", format_version=1)
    with pytest.raises(CaptureError, match="nested too deeply"):
        open_capture(tmp_path / "x.h5")
    with pytest.raises(CaptureError, match="nested too deeply"):
        read_evidence(tmp_path / "x.h5")


def test_the_memory_of_this_machine_is_known() -> None:
    assert guard.memory_limit() > 1 << 26
