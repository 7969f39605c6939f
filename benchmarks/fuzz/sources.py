"""The sound files that are damaged, and the commands that the damaged ones are given to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.damage import Range, damage_bytes, damage_text
from benchmarks.fuzz.model import damage_tables

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_MODELS = ROOT / "sample_models"
SHARED = ROOT.parent / "shared" / "models" / "tflite"
_LARGEST = 100_000
"""Bytes of a file to damage."""
_MOST_ELEMENTS = 10_000_000
"""A sound file whose tensors are larger than that is slow, and no use here."""
_MODEL = SAMPLE_MODELS / "dense4.tflite"
_NO_BIAS = SAMPLE_MODELS / "dense4_nobias.tflite"
_TOLERANCES = 'diverged = true\n["*"]\nsqnr = 10\nlocal = 2\n[FULLY_CONNECTED]\nlocal = "1lsb"\n'


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of file, sound examples of it, and who reads it."""

    files: Sequence[Path]
    damage: Callable[[Path, random.Random], tuple[str, bytes]]
    commands: Mapping[str, Sequence[str]]
    """By name the command line; ``FILE`` stands for the damaged file, ``GOOD`` for the sound one,
    ``HELD`` for the folder of what was made before."""
    runs: bool = False
    """Whether these commands start the runtime."""


@cache
def models() -> tuple[Path, ...]:
    """Return the .tflite files to damage: the repository's own and, where they are, real ones."""
    found = sorted(SAMPLE_MODELS.glob("*.tflite")) + sorted(SHARED.glob("*.tflite"))
    return tuple(p for p in found if p.stat().st_size <= _LARGEST and _is_quick(p))


def _is_quick(path: Path) -> bool:
    from tfldbg.errors import ModelError
    from tfldbg.graph.load import load_graph

    try:
        subgraphs = load_graph(path.read_bytes()).subgraphs
    except ModelError:
        return True
    return all(t.elements <= _MOST_ELEMENTS for s in subgraphs for t in s.tensors)


def prepare(held: Path) -> None:
    """Make the recordings, data and logs to damage, once.

    Args:
        held: The folder for them.
    """
    from tfldbg import record, session, trace

    generator = np.random.default_rng(0)
    trace(_MODEL, dump=held / "run.h5", samples=2, worst=1, histograms=True)
    trace(SAMPLE_MODELS / "cnn.tflite", dump=held / "cnn.h5", samples=1)
    record(_MODEL, held / "dump.h5", samples=2)
    loaded, exposed = session.expose_model(_MODEL)
    (held / "exposed.tflite").write_bytes(exposed.model_bytes)
    shape = (2, *loaded.subgraph.tensors[loaded.subgraph.inputs[0]].shape[1:])
    values = generator.normal(size=shape).astype(np.float32)
    np.save(held / "data.npy", values)
    np.savez(held / "data.npz", image=values)
    np.savez_compressed(held / "packed.npz", image=values)
    _record_npz(held / "dump.h5", held / "recorded.npz")
    _write_log(held / "serial.log", exposed)
    (held / "tolerances.toml").write_text(_TOLERANCES)


def _record_npz(recording: Path, target: Path) -> None:
    import h5py

    with h5py.File(recording, "r") as file:
        groups = file["tensors"].values()
        arrays = {str(g.attrs["name"]): np.asarray(g["values"]) for g in groups}
    np.savez(target, **arrays)


def _write_log(target: Path, exposed: Any) -> None:
    from tfldbg.device.serial_log import BEGIN, MARK, crc16
    from tfldbg.device.tensors import size_of
    from tfldbg.graph.load import load_graph

    main = load_graph(exposed.model_bytes).main
    lines = ["boot", BEGIN]
    for output, index in enumerate(main.outputs):
        content = bytes(size_of(main.tensors[index]))
        lines.append(f"{MARK} 0 {output} 0 {content.hex()} {crc16(content):04x}")
    target.write_text("\n".join([*lines, f"{MARK} end 1", ""]))


def sources(held: Path) -> Mapping[str, Source]:
    """Return what is damaged, by name.

    Args:
        held: The folder that `prepare` filled.
    """
    recordings = [held / name for name in ("run.h5", "cnn.h5", "dump.h5")]
    data = [held / name for name in ("data.npy", "data.npz", "packed.npz")]
    few = ("--samples", "1")
    against = ("trace", str(_MODEL), "--samples", "2", "--against", "FILE")
    log = ("import", "FILE", "--model", str(held / "exposed.tflite"), "-o", "device.npz")
    return {
        "model": Source(
            models(),
            _damage_model,
            {
                "inspect": ("inspect", "FILE"),
                "inspect --json": ("inspect", "FILE", "--json", "-"),
                "expose": ("expose", "FILE", "-o", "exposed.tflite"),
                "params --against": ("params", "GOOD", "--against", "FILE"),
                "kit": ("kit", "FILE", "-o", "kit", "--for", "micro", *few),
            },
        ),
        "model, run": Source(
            models(),
            _damage_tables,
            {
                "dump": ("dump", "FILE", "-o", "run.h5", *few),
                "dump --runtime builtin": (
                    *("dump", "FILE", "-o", "run.h5", "--runtime", "builtin"),
                    *few,
                ),
                "trace": ("trace", "FILE", *few),
                "trace --runtime builtin": ("trace", "FILE", "--runtime", "builtin", *few),
                "trace --runtime reference": ("trace", "FILE", "--runtime", "reference", *few),
                "trace --against": ("trace", "FILE", "--against", "GOOD", *few),
                "trace GOOD --against": ("trace", "GOOD", "--against", "FILE", *few),
            },
            runs=True,
        ),
        "recording": Source(
            recordings,
            _damage_recording,
            {
                "report": ("report", "FILE"),
                "report --html": ("report", "FILE", "--html", "page.html", "--json", "-"),
                "diff": ("diff", str(held / "dump.h5"), "FILE"),
                "diff FILE": ("diff", "FILE", str(held / "dump.h5"), "--csv", "-"),
            },
        ),
        "recording, run": Source(
            [*recordings, held / "recorded.npz"],
            _damage_recording,
            {"trace --against RUN.h5": against},
            runs=True,
        ),
        "recording.npz": Source(
            [held / "recorded.npz"],
            lambda path, rng: damage_bytes(path.read_bytes(), rng),
            {"diff": ("diff", "GOOD", "FILE")},
        ),
        "data": Source(
            [*data, held / "dump.h5"],
            lambda path, rng: damage_bytes(path.read_bytes(), rng),
            {"kit --data": ("kit", str(_MODEL), "-o", "kit", "--for", "board", "--data", "FILE")},
        ),
        "keras": Source(
            [SAMPLE_MODELS / "dense4_nobias.h5", SAMPLE_MODELS / "dense4_nobias.keras"],
            lambda path, rng: damage_bytes(path.read_bytes(), rng),
            {"params --keras": ("params", str(_NO_BIAS), "--keras", "FILE")},
        ),
        "tolerances": Source(
            [held / "tolerances.toml"],
            lambda path, rng: damage_text(path.read_bytes(), rng),
            {"report --tolerances": ("report", str(held / "run.h5"), "--tolerances", "FILE")},
        ),
        "log": Source(
            [held / "serial.log"],
            lambda path, rng: damage_text(path.read_bytes(), rng),
            {"import": log},
        ),
    }


def _damage_model(path: Path, rng: random.Random) -> tuple[str, bytes]:
    return _damage(path, rng, 0.6)


def _damage_tables(path: Path, rng: random.Random) -> tuple[str, bytes]:
    """Damage a file so that a runtime gets it more often than not."""
    return _damage(path, rng, 0.9)


def _damage(path: Path, rng: random.Random, share: float) -> tuple[str, bytes]:
    data = path.read_bytes()
    if rng.random() < share:
        kind, changed = damage_tables(data, rng)
        if changed != data:
            return kind, changed
    return damage_bytes(data, rng, _weights(data))


def _weights(data: bytes) -> tuple[Range, ...]:
    """Return where constants lie that may hold anything."""
    from tfldbg.errors import ModelError
    from tfldbg.graph.load import load_graph

    try:
        buffers = load_graph(data).buffers
    except ModelError:
        return ()
    spans = sorted((b.start, b.start + b.size) for b in buffers if b.size > 64)
    return tuple(spans)


def _damage_recording(path: Path, rng: random.Random) -> tuple[str, bytes]:
    if path.suffix == ".npz" or rng.random() < 0.5:
        return damage_bytes(path.read_bytes(), rng)
    return _damage_members(path, rng)


_ODD: tuple[Any, ...] = (
    None, -1, 0, 1, 2**40, float("nan"), float("inf"), True, "", "x" * 5000, "\x1b[2J", [], [1], {},
    {"a": 1}, [[]],
)  # fmt: skip


def _damage_members(path: Path, rng: random.Random) -> tuple[str, bytes]:
    """Change what a whole HDF5 file says: a value of the evidence, an attribute, a dataset."""
    import io

    import h5py

    memory = io.BytesIO(path.read_bytes())
    with h5py.File(memory, "r+") as file:
        kind = rng.choice(("evidence", "evidence", "evidence", "attributes", "datasets"))
        if kind == "evidence":
            plain = json.loads(file["evidence"].asstr()[()])
            for _ in range(rng.choice((1, 1, 2))):
                _replace(plain, rng)
            del file["evidence"]
            file["evidence"] = json.dumps(plain)
        elif kind == "attributes":
            _damage_attribute(file, rng)
        else:
            _damage_dataset(file, rng)
    return kind, memory.getvalue()


def _replace(plain: Any, rng: random.Random) -> None:
    """Replace, add or leave out one value somewhere in nested JSON."""
    while True:
        keys = list(plain) if isinstance(plain, dict) else list(range(len(plain)))
        if not keys:
            return
        key = rng.choice(keys)
        inner = plain[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.85:
            plain = inner
            continue
        if rng.random() < 0.2:
            del plain[key]
        else:
            plain[key] = rng.choice(_ODD)
        return


def _damage_attribute(file: Any, rng: random.Random) -> None:
    group = rng.choice((file, *file["tensors"].values()))
    names = list(group.attrs) or ["scale"]
    name = rng.choice((*names, "scale", "zero_point", "inputs", "operator"))
    value = rng.choice((-1, 0, 2**40, float("nan"), float("inf"), "", "x" * 500, b"\xff", None))
    if value is None:
        group.attrs.pop(name, None)
    else:
        group.attrs[name] = rng.choice((value, [value, value], np.zeros((2, 0))))


def _damage_dataset(file: Any, rng: random.Random) -> None:
    import h5py

    group = rng.choice(tuple(file["tensors"].values()))
    name = rng.choice(tuple(group))
    what = rng.randrange(6)
    if what == 0:
        del file[group.name]
        return
    found = group[name]
    shape, dtype = found.shape, found.dtype
    del group[name]
    if what == 1:
        group[name] = np.zeros(rng.choice((shape[::-1], (), (0,), (*shape, 2))), dtype)
    elif what == 2:
        group[name] = np.zeros(shape, rng.choice(("complex64", "S3", "bool", "float64", "int64")))
    elif what == 3:
        group.create_dataset(name, (2**40, *shape[1:]), dtype, chunks=(1, *shape[1:]))
    elif what == 4:
        group[name] = h5py.SoftLink("/nothing")
    else:
        group.create_group(name)
