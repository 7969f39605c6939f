"""Keras files that Keras wrote and cannot read, or that ask for parts which are none of Keras's.

What has to be changed for Keras to load them is changed in a copy of the file.
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
"""Modules of Keras 3 whose classes stand for functions such as ``x + y`` in a functional model."""
_TENSORFLOW = ("tensorflow.python.ops.init_ops_v2", "tensorflow.python.ops.init_ops")
"""Where TensorFlow's own initializers are."""
_KERAS3_INITIALIZERS = "keras.src.initializers."
_ZEROS: Mapping[str, Any] = MappingProxyType(
    {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
)


def repaired(config: Any, *, old_format: bool, keras3: bool) -> Any:
    """Return the configuration of a model as Keras can read it, the same where it can already.

    Args:
        config: As parsed from the file's JSON.
        old_format: Whether it comes from an ``.h5``.
        keras3: Whether Keras 3 loads it.
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
            return "silu"  # as Keras 3 calls tf.nn.silu, which calls itself swish
        changed = {key: walk(value) for key, value in item.items()}
        module = _module_of_function(item, functions)
        return {"module": module, "registered_name": None, **changed} if module else changed

    return walk(config)


def _is_foreign_initializer(item: Mapping[str, Any], *, old_format: bool, keras3: bool) -> bool:
    """Whether an initializer is not Keras's own, or one that Keras saved and cannot build.

    It need not be built, since the weights in the file take the place of what it makes.  The
    ``.h5`` reader does not know how arrays are written, and tf_keras does not know the initializers
    of Keras 3, which ``tf.keras`` is today.
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
    """Return the module of every class that stands for a function, by its name."""
    from keras import Operation

    return {
        name: module
        for module in [m for m in sys.modules if m.startswith(_OPERATIONS)]
        for name, found in vars(sys.modules[module]).items()
        if inspect.isclass(found) and issubclass(found, Operation) and found.__module__ == module
    }


def _module_of_function(item: Mapping[str, Any], functions: Mapping[str, str]) -> str | None:
    """Return the module that an ``.h5`` does not name, which Keras then takes for a layer's.

    Layers say whether they are trainable, functions do not.
    """
    name, config = item.get("class_name"), item.get("config")
    if "inbound_nodes" not in item or "module" in item or not isinstance(config, dict):
        return None
    return None if "trainable" in config or not isinstance(name, str) else functions.get(name)


def annotated(config: Any) -> int:
    """Count the layers that were annotated for quantization and nothing more."""
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
    """Return the configuration of a quantized archive without the shapes layers are built with.

    They make each wrapper build its layer's variables a second time.
    """
    if isinstance(item, dict):
        return {k: without_build_config(v) for k, v in item.items() if k != "build_config"}
    if isinstance(item, list):
        return [without_build_config(v) for v in item]
    return item


def with_config(path: Path, config: Any, folder: Path) -> Path:
    """Write a copy of a ``.h5`` or ``.keras`` file with another configuration into a folder."""
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
    """Write a copy of a file under another suffix, by which Keras chooses how to read it."""
    copy = folder / f"{path.stem}{suffix}"
    shutil.copyfile(path, copy)
    return copy


def with_slashes(path: Path, folder: Path) -> Path:
    r"""Write a copy of a ``.keras`` file that was saved under Windows into a folder.

    tf.keras 2.13 to 2.15 joined the names of its weights with the separator of the system: the
    group ``layers\dense`` stands for ``layers/dense`` and is not found elsewhere.

    Args:
        path: A ``.keras`` file.
        folder: Where to.

    Returns:
        The copy; ``path`` itself where no name has a backslash.
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

    Those stored first are entries that a wrapper no longer has; the outputs then equal those of
    the ``.h5``.
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
