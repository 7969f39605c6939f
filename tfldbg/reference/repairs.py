"""Repairs of Keras files that Keras wrote and cannot read, or that ask for objects outside Keras.

The changes that Keras needs to load them are made in a copy of the file.
"""

from __future__ import annotations

import inspect
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_OPERATIONS = "keras.src.ops."
"""The modules of Keras 3 with classes for functions such as ``x + y`` in a functional model."""
_TENSORFLOW = ("tensorflow.python.ops.init_ops_v2", "tensorflow.python.ops.init_ops")
"""The modules of TensorFlow's own initializers."""
_KERAS3_INITIALIZERS = "keras.src.initializers."
_ZEROS: Mapping[str, Any] = MappingProxyType(
    {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
)


def repaired(config: Any, *, old_format: bool, keras3: bool) -> Any:
    """Return the configuration of a model in a form that Keras can read.

    Args:
        config: The configuration as parsed from the file's JSON.
        old_format: True if it comes from an ``.h5``.
        keras3: True if Keras 3 loads it.
    """
    functions = _functions_of_keras3() if keras3 and old_format else {}

    def walk(item: Any) -> Any:
        if isinstance(item, list):
            return [walk(value) for value in item]
        if not isinstance(item, dict):
            return item
        if _is_foreign_initializer(item, old_format=old_format, keras3=keras3):
            return dict(_ZEROS)
        if keras3 and (item.get("module"), item.get("config")) == ("builtins", "swish"):
            return "silu"  # the Keras 3 name of tf.nn.silu, whose own name is swish
        changed = {key: walk(value) for key, value in item.items()}
        module = _module_of_function(item, functions)
        return {"module": module, "registered_name": None, **changed} if module else changed

    return walk(config)


def _is_foreign_initializer(item: Mapping[str, Any], *, old_format: bool, keras3: bool) -> bool:
    """Return whether an initializer is not Keras's own, or one that Keras cannot build again.

    It is not needed, because the weights in the file replace its values.  The ``.h5`` reader does
    not know how arrays are written, and tf_keras does not know the initializers of Keras 3, which
    is ``tf.keras`` today.
    """
    module, config = item.get("module"), item.get("config")
    if not isinstance(module, str) or not isinstance(config, dict):
        return False
    if module in _TENSORFLOW:
        return True
    if module.startswith(_KERAS3_INITIALIZERS):
        return not keras3
    array = item.get("class_name") == "Constant" and isinstance(config.get("value"), dict)
    return array and old_format and "initializers" in module


def _functions_of_keras3() -> dict[str, str]:
    """Return the module of every class that represents a function, by class name."""
    from keras import Operation

    return {
        name: module
        for module in [m for m in sys.modules if m.startswith(_OPERATIONS)]
        for name, found in vars(sys.modules[module]).items()
        if inspect.isclass(found) and issubclass(found, Operation) and found.__module__ == module
    }


def _module_of_function(item: Mapping[str, Any], functions: Mapping[str, str]) -> str | None:
    """Return the module of a function if an ``.h5`` does not name it and Keras expects a layer.

    The configuration of a layer has ``trainable``, that of a function does not.
    """
    name, config = item.get("class_name"), item.get("config")
    if "inbound_nodes" not in item or "module" in item or not isinstance(config, dict):
        return None
    return None if "trainable" in config or not isinstance(name, str) else functions.get(name)


def annotated(config: Any) -> int:
    """Return the number of layers that are annotated for quantization."""
    count, stack = 0, [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            count += item.get("class_name") == "QuantizeAnnotate"
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return count


def without_build_config(item: Any) -> Any:
    """Return the configuration of a quantized archive without the shapes to build layers with.

    These shapes make each wrapper build its layer's variables a second time.
    """
    if isinstance(item, dict):
        return {k: without_build_config(v) for k, v in item.items() if k != "build_config"}
    if isinstance(item, list):
        return [without_build_config(v) for v in item]
    return item


def with_config(path: Path, config: Any, folder: Path) -> Path:
    """Write a copy of a ``.h5`` or ``.keras`` file with another configuration to a folder."""
    copy, text = folder / path.name, json.dumps(config)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for entry in old.namelist():
                new.writestr(entry, text.encode() if entry == _CONFIG else old.read(entry))
        return copy
    import h5py

    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = text
    return copy


def with_suffix(path: Path, suffix: str, folder: Path) -> Path:
    """Write a copy of a file with another suffix, by which Keras chooses the format."""
    copy = folder / f"{path.stem}{suffix}"
    shutil.copyfile(path, copy)
    return copy


def with_slashes(path: Path, folder: Path) -> Path:
    r"""Write a copy of a ``.keras`` file that was saved on Windows, with slashes in its names.

    tf.keras 2.13 to 2.15 joined the names of weights with the system's separator: the group
    ``layers\dense`` is ``layers/dense`` on other systems, which do not find it.

    Args:
        path: A ``.keras`` file.
        folder: The folder for the copy.

    Returns:
        The copy, or ``path`` itself if no name has a backslash.
    """
    import h5py

    with zipfile.ZipFile(path) as old:
        stored = io.BytesIO(old.read(_WEIGHTS))
        with h5py.File(stored, "r+") as file:
            renamed = [name for name in file if "\\" in name]
            for name in renamed:
                file.move(name, name.replace("\\", "/"))
        if not renamed:
            return path
        copy = folder / path.name
        with zipfile.ZipFile(copy, "w") as new:
            for entry in old.namelist():
                new.writestr(entry, stored.getvalue() if entry == _WEIGHTS else old.read(entry))
    return copy


@contextmanager
def lenient_wrappers() -> Iterator[None]:
    """Let the wrappers of a quantized archive read only the last of their stored variables.

    The first stored variables are entries that a wrapper no longer has.  The outputs then equal
    those of the ``.h5``.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

    def load_last(self: Any, store: Any) -> None:
        variables = self._trainable_weights + self._non_trainable_weights
        stored = [store[key] for key in sorted(store.keys(), key=int)]
        for variable, value in zip(variables, stored[-len(variables) :], strict=False):
            variable.assign(value)

    wrapper = quantize_wrapper.QuantizeWrapperV2
    own = vars(wrapper).get("load_own_variables")
    wrapper.load_own_variables = load_last
    try:
        yield
    finally:
        if own is None:
            del wrapper.load_own_variables
        else:
            wrapper.load_own_variables = own
