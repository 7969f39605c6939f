"""Run an exposed model on this machine and write every tensor to an .npz.

    python3 record.py exposed.tflite inputs.npz -o device.npz --untouched model.tflite

Needs numpy and one of ai_edge_litert, tflite_runtime and tensorflow, but not tfldbg.  Afterwards,
on your machine, ``tfldbg trace model.tflite --against device.npz`` names the operator that differs.

Exit codes: 0 written; 1 written, but the exposed model computes other values than the untouched
one on this machine; 2 nothing written.
"""

# This file is copied to devices: it is one file, imports nothing of tfldbg and runs on Python 3.8.

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import re
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

INTERPRETERS = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
KERNELS = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
_LONGEST_KEY = 60000  # bytes; a zip archive holds names of up to 65535
_LEADS_OUT = re.compile(r"(.*[/\\])?\.\.([/\\]|$)", re.DOTALL).match

Array = Any


class DeviceError(Exception):
    """An error that the user can fix."""


def array_keys(names: Mapping[int, str]) -> dict[int, str]:
    """Return the key of each tensor in the .npz: its name, or ``tensor N``.

    Args:
        names: The name of each tensor, by index.  The index is used for tensors without a name,
            with a name that another tensor has, that looks like an index, that no archive can
            hold, or that leads out of the folder into which an archive is unpacked.
    """
    counts = Counter(names.values())

    def usable(name: str) -> bool:
        fit = "\0" not in name and len(name.encode()) < _LONGEST_KEY and not _LEADS_OUT(name)
        return fit and name != "" and counts[name] == 1 and not name.startswith("tensor ")

    return {i: name if usable(name) else f"tensor {i}" for i, name in names.items()}


class Spool:
    """Collects tensors sample by sample on disk, because a board's memory holds few of them.

    Args:
        output: The .npz to write at the end; a temporary folder is created next to it.
    """

    def __init__(self, output: str) -> None:
        self._output = Path(output)
        self._temporary = tempfile.TemporaryDirectory(
            prefix=f".{self._output.name}.", dir=str(self._output.parent)
        )
        self._folder = Path(self._temporary.name)
        self._kinds: dict[int, tuple[Any, tuple[int, ...]]] = {}
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *details: object) -> None:
        self._temporary.cleanup()

    def append(self, index: int, array: Array) -> bool:
        """Add one sample of a tensor; return False if its type or shape has changed."""
        kind = (array.dtype.newbyteorder("="), array.shape)
        if self._kinds.setdefault(index, kind) != kind:
            return False
        with (self._folder / str(index)).open("ab") as file:
            file.write(np.ascontiguousarray(array, kind[0]).tobytes())
        self._counts[index] = self._counts.get(index, 0) + 1
        return True

    def finish(self, keys: Mapping[int, str]) -> None:
        """Write one array (samples, ...) for each key, completely or not at all.

        Args:
            keys: The key of each tensor index, in the order of writing.
        """
        whole = self._folder / "whole.npz"
        with zipfile.ZipFile(str(whole), "w") as archive:
            for index, key in keys.items():
                dtype, shape = self._kinds[index]
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self._counts[index], *shape),
                }
                with archive.open(key + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    with (self._folder / str(index)).open("rb") as file:
                        shutil.copyfileobj(file, member)
        whole.replace(self._output)


def read_inputs(path: str) -> dict[str, Array]:
    """Return the named arrays of an .npz, or the one array of an .npy."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {Path(path).stem: loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DeviceError(
            f"cannot read the inputs '{path}': {error}\n"
            "hint: save them with numpy.savez(path, **{input_name: array})"
        ) from error


def one_sample(details: Mapping[str, Any]) -> list[int]:
    """Return an input's shape without its batch of one, with -1 for dynamic dimensions."""
    shape = [int(d) for d in details["shape"]]
    signature = [int(d) for d in details.get("shape_signature", ())]
    sizes = signature if len(signature) == len(shape) else shape
    return sizes[1:] if shape[:1] == [1] else sizes


def fits(details: Mapping[str, Any], array: Array) -> bool:
    """Return whether an array's samples have an input's shape, ignoring dimensions of one."""
    shape = array.shape[1:]
    return array.ndim > 0 and array.dtype.kind in "biuf" and input_shape(details, shape) is not None


def input_shape(details: Mapping[str, Any], sample: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape in which an input accepts a sample, or None if it does not fit."""
    inner = _aligned(tuple(one_sample(details)), tuple(sample))
    return (1, *inner) if inner is not None and len(inner) < len(details["shape"]) else inner


def _aligned(expected: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return a shape with the rank of ``expected`` (-1 is dynamic), adding or removing ones."""
    if not expected:
        return () if all(d == 1 for d in found) else None
    rest = _aligned(expected[1:], found[1:]) if found and expected[0] in (-1, found[0]) else None
    if rest is not None:
        return (found[0], *rest)
    rest = _aligned(expected[1:], found) if expected[0] in (-1, 1) else None
    if rest is not None:
        return (1, *rest)
    return _aligned(expected, found[1:]) if found[:1] == (1,) else None


def choose_arrays(
    inputs: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array], path: str
) -> list[Array]:
    """Return the samples of each input in its type: by name, or else the only array that fits."""
    chosen: list[str] = []
    for details in inputs:
        names = [details["name"], _plain(details["name"]), f"tensor {details['index']}"]
        key = next((name for name in names if name in arrays), None)
        free = [k for k in arrays if k not in chosen and fits(details, arrays[k])]
        if key is None and len(free) == 1:
            key = free[0]
        if key is None or not fits(details, arrays[key]):
            raise _no_array(details, arrays, path)
        chosen.append(key)
    counts = sorted({len(arrays[key]) for key in chosen})
    if len(counts) > 1 or counts == [0]:
        held = " and ".join(str(count) for count in counts)
        raise DeviceError(
            f"the inputs in '{path}' hold {held} samples\n"
            "hint: give every input the same first axis, of at least one sample"
        )
    return [as_codes(inputs[place], arrays[key], key) for place, key in enumerate(chosen)]


def _plain(name: str) -> str:
    plain, argument = name.split(":")[0], "serving_default_"
    return plain[len(argument) :] if plain.startswith(argument) else plain


def _no_array(details: Mapping[str, Any], arrays: Mapping[str, Array], path: str) -> DeviceError:
    sizes = ", ".join("?" if d < 0 else str(d) for d in one_sample(details))
    held = "; ".join(f"'{k}' {a.shape} {a.dtype}" for k, a in arrays.items()) or "nothing"
    wanted = _plain(details["name"]) or f"tensor {details['index']}"
    return DeviceError(
        f"no array in '{path}' fits input '{wanted}': expected (samples, {sizes}) "
        f"{np.dtype(details['dtype'])}, found {held}\n"
        f"hint: name the array '{wanted}' (numpy.savez), first axis samples"
    )


def as_codes(details: Mapping[str, Any], array: Array, key: str) -> Array:
    """Return an array in an input's type; real units are rounded to codes, ties away from zero."""
    dtype = np.dtype(details["dtype"])
    scales = details["quantization_parameters"]["scales"]
    real = array.dtype.kind == "f"
    if real and not np.isfinite(array).all():
        raise DeviceError(f"the array '{key}' holds NaN or infinite values\nhint: clean the data")
    if array.dtype == dtype or dtype.kind == "f" or (not real and not len(scales)):
        return array.astype(dtype)
    if not real or not len(scales):
        raise DeviceError(
            f"the array '{key}' is {array.dtype}, but input '{details['name']}' takes {dtype}\n"
            f"hint: give {dtype} data as codes"
            + (", or float data in real units" if len(scales) else "")
        )
    steps = array.astype(np.float64) / float(scales[0])
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    limits = np.iinfo(dtype)
    codes = rounded + int(details["quantization_parameters"]["zero_points"][0])
    return np.clip(codes, limits.min, limits.max).astype(dtype)


def load_module(wanted: str | None) -> tuple[str, Any]:
    """Import the requested interpreter, or else the first one that is installed."""
    installed = [name for name in INTERPRETERS if importlib.util.find_spec(name)]
    name = wanted or next(iter(installed), None)
    if name is None or name not in installed:
        missing = f"{wanted} is not" if wanted else f"none of {', '.join(INTERPRETERS)} is"
        raise DeviceError(
            f"{missing} installed for {sys.executable}\nhint: python3 -m pip install ai-edge-litert"
        )
    try:
        return name, importlib.import_module(INTERPRETERS[name])
    except ImportError as error:
        raise DeviceError(f"cannot import {name}: {error}\nhint: install it again") from error


def interpreter_options(options: argparse.Namespace, module: Any) -> dict[str, Any]:
    """Return the arguments of the interpreter other than the model."""
    extra: dict[str, Any] = {}
    if options.threads:
        extra["num_threads"] = options.threads
    if options.runtime in KERNELS:
        resolver = getattr(module.OpResolverType, KERNELS[options.runtime])
        extra["experimental_op_resolver_type"] = resolver
    if options.delegate:
        pairs = dict(pair.split("=", 1) for pair in options.delegate_option)
        try:
            ctypes.CDLL(options.delegate)  # load_delegate prints a traceback if this fails
            extra["experimental_delegates"] = [module.load_delegate(options.delegate, pairs)]
        except (OSError, ValueError, AttributeError) as error:
            raise DeviceError(
                f"cannot load the delegate '{options.delegate}': {error}\n"
                "hint: give the path of an external delegate for this machine, with a / in it"
            ) from error
    return extra


class Device:
    """A model loaded with the interpreter, kernels and delegate of the options."""

    def __init__(self, path: str, options: argparse.Namespace, module: Any) -> None:
        if not Path(path).is_file():
            raise DeviceError(f"the model '{path}' does not exist\nhint: check the path")
        self._path = path
        self._new = partial(
            module.Interpreter, model_path=path, **interpreter_options(options, module)
        )
        self._ran = False
        self._load()
        self.inputs: list[Mapping[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[Mapping[str, Any]] = self._interpreter.get_output_details()

    def _load(self) -> None:
        with self._explained():
            self._interpreter: Any = self._new()
            self._interpreter.allocate_tensors()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn exceptions of an interpreter or a delegate into an error that names the model."""
        try:
            yield
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DeviceError(
                f"the runtime refused '{self._path}': {reason}\n"
                "hint: run the untouched model in the same way; try it without --delegate"
            ) from error

    def tensors(self) -> list[Mapping[str, Any]]:
        """Return the readable tensors: inputs, then outputs in the order of their operators."""
        listed = self._operators()  # if empty, the file's order is used
        place: dict[int, int] = {}
        for number, op in enumerate(listed):
            for index in op["outputs"]:
                place.setdefault(int(index), number)
        found = {d["index"]: d for d in self.inputs}
        for details in sorted(self.outputs, key=lambda d: place.get(d["index"], -1)):
            found.setdefault(details["index"], details)
        return list(found.values())

    def _operators(self) -> list[Any]:
        """Return the operators, or none if the interpreter lacks this method, which is private."""
        return list(getattr(self._interpreter, "_get_ops_details", list)())

    def _reset(self) -> None:
        """Reset variables, and resources by loading the model again."""
        if self._ran and any(op["op_name"] == "ASSIGN_VARIABLE" for op in self._operators()):
            self._load()
            self.inputs = self._interpreter.get_input_details()
        else:
            with self._explained():
                self._interpreter.reset_all_variables()

    def run(self, sample: Sequence[Array], fresh: bool = True) -> None:
        """Invoke once on one array per input; dynamic sizes follow the sample.

        Args:
            sample: The arrays.
            fresh: True to reset the state first, False to continue from the last run.
        """
        if fresh:
            self._reset()
        self._ran = True
        with self._explained():
            arrays = [self._shaped(place, array) for place, array in enumerate(sample)]
            for place, array in enumerate(arrays):
                self._interpreter.set_tensor(self.inputs[place]["index"], array)
            self._interpreter.invoke()

    def _shaped(self, place: int, sample: Array) -> Array:
        details = self.inputs[place]
        stated = tuple(int(d) for d in details["shape"])
        shape = input_shape(details, sample.shape) or stated
        if shape != stated:
            self._interpreter.resize_tensor_input(details["index"], shape)
            self._interpreter.allocate_tensors()
            self.inputs = self._interpreter.get_input_details()
        return np.ascontiguousarray(sample).reshape(shape)

    def read(self, details: Mapping[str, Any]) -> Array | str:
        """Return a tensor's values, or a text with the reason if there are none."""
        try:
            values = np.asarray(self._interpreter.get_tensor(details["index"]))
        except (RuntimeError, ValueError) as error:
            return " ".join(str(error).split())
        return values if values.dtype.kind in "biuf" else "it holds no numbers"


def record(
    exposed: Device,
    untouched: Device | None,
    arrays: Sequence[Array],
    spool: Spool,
    steps: int = 1,
) -> tuple[dict[int, str], dict[str, str], list[int]]:
    """Run every sample, with ``steps`` consecutive samples as one stream.

    Returns:
        The key of each tensor index, the reason for each tensor that is left out, and the samples
        in which the untouched model's outputs differ.
    """
    tensors = {details["index"]: details for details in exposed.tensors()}
    left_out: dict[int, str] = {}
    differing = []
    for number in range(len(arrays[0])):
        sample = [array[number] for array in arrays]
        fresh = number % steps == 0
        exposed.run(sample, fresh)
        for index, details in tensors.items():
            values = exposed.read(details)
            if isinstance(values, str):
                left_out.setdefault(index, values)
            elif not spool.append(index, values):
                left_out.setdefault(index, "its shape changes from sample to sample")
        if untouched is not None:
            untouched.run(sample, fresh)
            if not all(_same(exposed.read(d), untouched.read(d)) for d in untouched.outputs):
                differing.append(number)
    kept = {index: d["name"] for index, d in tensors.items() if index not in left_out}
    reasons = {d["name"]: left_out[index] for index, d in tensors.items() if index in left_out}
    return array_keys(kept), reasons, differing


def _same(one: Array | str, other: Array | str) -> bool:
    """Return whether two reads of an output are identical, byte for byte."""
    if isinstance(one, str) or isinstance(other, str):
        return type(one) is type(other)
    return bool(one.tobytes() == other.tobytes())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", help="a model written by tfldbg expose or tfldbg kit")
    add("inputs", help=".npz or .npy, first axis samples: codes in the input's type or real units")
    add("-o", "--output", default="device.npz", help="the .npz to write (device.npz)")
    add("--untouched", metavar="MODEL.tflite", help="compare the final outputs with this file's")
    add("--samples", type=int, metavar="N", help="only the first N samples")
    add("--steps", type=int, default=1, metavar="N", help="keep state over N consecutive samples")
    add("--threads", type=int, metavar="T", help="the number of threads of the interpreter")
    kernels = ["xnnpack", *KERNELS]
    add("--runtime", choices=kernels, default="xnnpack", help="xnnpack: the default kernels")
    add("--delegate", metavar="LIB.so", help="an external delegate")
    add("--delegate-option", action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    add("--interpreter", choices=list(INTERPRETERS), help="default: the first that is installed")
    options = parser.parse_args(arguments)
    for pair in options.delegate_option:
        if "=" not in pair:
            parser.error(f"--delegate-option '{pair}' is not of the form KEY=VALUE")
    if options.samples is not None and options.samples < 1:
        parser.error(f"invalid value '{options.samples}' for --samples: must be at least 1")
    if options.steps < 1:
        parser.error(f"invalid value '{options.steps}' for --steps: must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse(arguments)
    try:
        return _run(options)
    except DeviceError as error:
        _print(f"error: {error}", sys.stderr)
    except OSError as error:
        _print(f"error: cannot write '{options.output}': {error}", sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
    _protect(options)
    name, module = load_module(options.interpreter)
    exposed = Device(options.model, options, module)
    untouched = Device(options.untouched, options, module) if options.untouched else None
    arrays = choose_arrays(exposed.inputs, read_inputs(options.inputs), options.inputs)
    if not arrays:
        raise DeviceError(f"'{options.model}' has no inputs, so there are no samples to run")
    arrays = [array[: options.samples] for array in arrays]
    with Spool(options.output) as spool:
        keys, left_out, differing = record(exposed, untouched, arrays, spool, options.steps)
        if not keys:
            raise DeviceError(f"no tensor of '{options.model}' holds numbers: {left_out}")
        spool.finish(keys)
    kernels = Path(options.delegate).name if options.delegate else options.runtime
    _print(f"{options.output}: {len(keys)} tensors, {len(arrays[0])} samples, {name}, {kernels}")
    for tensor, why in left_out.items():
        _print(f"  left out '{tensor}': {why}")
    return _tell_difference(options, differing, len(arrays[0])) if untouched else 0


def _protect(options: argparse.Namespace) -> None:
    """Check that the output does not overwrite an input file and is not a folder."""
    output = Path(options.output)
    if output.exists() and not output.is_file():
        raise DeviceError(f"'{output}' is a folder or a device\nhint: name a file with -o")
    for read in filter(None, (options.model, options.untouched, options.inputs)):
        if output.exists() and Path(read).exists() and output.samefile(read):
            raise DeviceError(
                f"'{output}' is an input and would be lost\nhint: name another with -o"
            )


def _tell_difference(options: argparse.Namespace, differing: Sequence[int], count: int) -> int:
    if not differing:
        _print(f"final outputs identical to those of '{options.untouched}'")
        return 0
    _print(
        f"WARNING: the final outputs differ from those of '{options.untouched}' in "
        f"{len(differing)} of {count} samples, the first being sample {differing[0]}: this machine "
        "runs the exposed model in another way (other fusions, another part on the delegate), and "
        "the recording shows that way"
    )
    return 1


def _print(text: str, stream: Any = None) -> None:
    """Write a text, with control characters of names from files made visible."""
    shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
    (stream or sys.stdout).write(shown + "\n")


if __name__ == "__main__":
    sys.exit(main())
