"""Load a Keras model or a SavedModel and freeze it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tfldbg import guard
from tfldbg.errors import KerasError, TfldbgError
from tfldbg.files import scratch_folder
from tfldbg.kinds import keras_suffix, kind_of
from tfldbg.reference import cache
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.freezing import freeze, user_inputs
from tfldbg.reference.graphdef import node_of
from tfldbg.reference.quiet import collecting_later, deep_calls, quiet
from tfldbg.reference.repairs import (
    annotated,
    lenient_wrappers,
    repaired,
    with_config,
    with_slashes,
    with_suffix,
    without_build_config,
)
from tfldbg.reference.trust import architecture_layers, names_registered, offences
from tfldbg.reference.trust_graph import check_saved_model

_HINT = "give the .h5, .keras or SavedModel folder that the .tflite was converted from"
_WEIGHTS = "model.weights.h5"
_MOST_OFFENCES = 5


def load_frozen(
    source: Path | Any, *, unsafe: bool = False, signature: str | None = None, cached: bool = False
) -> Frozen:
    """Load a reference model and freeze it so that every node can be fetched.

    Args:
        source: A ``.h5``, ``.keras`` or SavedModel path, a live tf_keras or Keras 3 model, or an
            earlier result of this function, to trace many files against one model.
        unsafe: True to allow files that can run code or reach other files (see ``SECURITY.md``).
        signature: The name of the signature of a SavedModel.
        cached: True to use a model that an earlier run froze, and to keep this one; only for
            ``.h5`` and ``.keras`` files.

    Raises:
        KerasError: The file is missing, has another format, is refused, or does not load.
    """
    if isinstance(source, Frozen):
        return source
    if not isinstance(source, Path):
        return _freeze_model(source)
    if source.is_dir() and (source / "saved_model.pb").exists():
        return _freeze_saved_model(source, signature, unsafe)
    # The results of an unsafe file may depend on code outside it.
    if not cached or unsafe or not source.is_file():
        return _freeze_model(load_live(source, unsafe=unsafe))
    key = cache.entry_key(source)
    return cache.read(key) or _frozen_and_kept(source, key)


def _frozen_and_kept(source: Path, key: str) -> Frozen:
    config = _config(source, unsafe=False)
    frozen = _freeze_model(_load(source, config, unsafe=False))
    if not names_registered(config.plain, _framework_of(config)):
        cache.write(key, frozen)
    return frozen


def load_live(path: Path, *, unsafe: bool = False) -> Any:
    """Load a ``.h5`` or ``.keras`` file, QAT models included, as a tf_keras or Keras 3 model.

    Raises:
        KerasError: The file is missing, has another format, is refused, or does not load.
    """
    return _load(path, _config(path, unsafe), unsafe)


def _config(path: Path, unsafe: bool) -> _Config:
    suffix = keras_suffix(path)
    if suffix in (".h5", ".hdf5"):
        return _h5_config(path, unsafe)
    if suffix == ".keras":
        return _zip_config(path, unsafe)
    if not path.exists():
        raise KerasError(f"the Keras model '{path}' does not exist", hint=_HINT)
    kind = kind_of(path)
    raise KerasError(
        f"'{path}' is not a Keras model: expected .h5, .keras or a SavedModel folder",
        hint=f"it is {kind}; {_HINT}" if kind else _HINT,
    )


class _Config:
    """The configuration that a Keras file states, read before any of it is executed."""

    def __init__(self, text: str, version: str, *, archive: bool) -> None:
        self.plain = guard.parse_json(text)
        self.version = version
        self.archive = archive
        """True for a ``.keras`` archive with any suffix, False for HDF5."""
        self.quantized = "QuantizeWrapper" in text or "QuantizeLayer" in text

    @property
    def keras3(self) -> bool:
        return self.version.startswith("3")


def _h5_config(path: Path, unsafe: bool) -> _Config:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not unsafe:
                guard.check_hdf5(file)
            config = file.attrs.get("model_config")
            version = file.attrs.get("keras_version", "2")
        if config is not None:
            return _Config(_text(config), _text(version), archive=False)
    except FileNotFoundError as error:
        raise KerasError(f"the Keras model '{path}' does not exist", hint=_HINT) from error
    except guard.RefusedError as error:
        raise _refused(path, str(error)) from error
    except guard.UNREADABLE as error:
        raise KerasError(f"'{path}' is not a Keras HDF5 file: {error}", hint=_HINT) from error
    raise KerasError(
        f"'{path}' holds no model, only weights or other data",
        hint="save the whole model with model.save(...), not save_weights(...)",
    )


def _zip_config(path: Path, unsafe: bool) -> _Config:
    try:
        with zipfile.ZipFile(path) as archive:
            if not unsafe:
                guard.check_zip(archive)
                guard.check_member_names(archive)
                _check_weights(archive)
            metadata = guard.parse_json(archive.read("metadata.json"))
            text, version = archive.read("config.json").decode(), metadata["keras_version"]
            return _Config(text, str(version), archive=True)
    except FileNotFoundError as error:
        raise KerasError(f"the Keras model '{path}' does not exist", hint=_HINT) from error
    except guard.RefusedError as error:
        raise _refused(path, str(error)) from error
    except guard.UNREADABLE as error:
        raise KerasError(f"'{path}' is not a .keras archive: {error}", hint=_HINT) from error


def _check_weights(archive: zipfile.ZipFile) -> None:
    """Check the weights in an archive for links to other files, like those of an ``.h5``."""
    import h5py

    stored = io.BytesIO(archive.read(_WEIGHTS))
    with h5py.File(stored, "r") as file:
        guard.check_hdf5(file)


def _refused(path: Path, reason: str) -> KerasError:
    return KerasError(f"'{path}' is refused: {reason}", hint="add --unsafe if you trust the file")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _load(path: Path, config: _Config, unsafe: bool) -> Any:
    loader = _load_keras3 if config.keras3 else _load_tf_keras
    try:
        with quiet(), collecting_later(), deep_calls():
            return loader(path, config, unsafe)
    except TfldbgError:
        raise
    except Exception as error:  # Keras and its layers raise any exception on damaged files
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise KerasError(
            f"'{path}' (saved by Keras {config.version}) does not load: {first[:300]}",
            hint="custom layers can be given through Python: tfldbg.trace(model, keras=live_model)",
        ) from error


def _framework_of(config: _Config) -> Any:
    if config.keras3:
        import keras

        return keras
    import tf_keras

    return tf_keras


def _load_keras3(path: Path, config: _Config, unsafe: bool) -> Any:
    import keras

    return _load_checked(path, config, keras, unsafe)


def _load_tf_keras(path: Path, config: _Config, unsafe: bool) -> Any:
    import tf_keras

    with ExitStack() as scope:
        if config.quantized:
            import tensorflow_model_optimization as tfmot

            scope.enter_context(tfmot.quantization.keras.quantize_scope())
            scope.enter_context(lenient_wrappers())
        return _load_checked(path, config, tf_keras, unsafe)


def _load_checked(path: Path, config: _Config, framework: Any, unsafe: bool) -> Any:
    """Load a file, or a repaired copy that Keras can read, unless it asks for code."""
    _refuse_annotated(f"'{path}'", annotated(config.plain))
    readable = repaired(config.plain, old_format=not config.archive, keras3=config.keras3)
    if config.quantized and config.archive:
        readable = without_build_config(readable)
    if not unsafe:
        _check_objects(path, readable, framework)
    with ExitStack() as stack:
        names = (".keras",) if config.archive else (".h5", ".hdf5")
        if path.suffix not in names:
            path = with_suffix(path, names[0], stack.enter_context(scratch_folder()))
        if config.archive and not config.keras3:
            path = with_slashes(path, stack.enter_context(scratch_folder()))
        if readable != config.plain:
            path = with_config(path, readable, stack.enter_context(scratch_folder()))
        known = framework.saving.get_registered_object
        own = architecture_layers(framework)
        unknown = {name: found for name, found in own.items() if known(name) is None}
        return framework.models.load_model(path, unknown, compile=False, safe_mode=not unsafe)


def _refuse_annotated(name: str, layers: int) -> None:
    """Refuse a model that was annotated for quantization-aware training but never quantized."""
    if layers:
        raise KerasError(
            f"{name} is annotated for quantization (QuantizeAnnotate layers: {layers}), and the "
            "annotations were never applied: it computes in float, and holds no ranges",
            hint="call tfmot.quantization.keras.quantize_apply(model), train and convert what it "
            "returns, and trace with that; or give the float model that was annotated",
        )


def _check_objects(path: Path, config: Any, framework: Any) -> None:
    """Check that a file only asks for objects that Keras computes with."""
    found = offences(config, framework)
    if not found:
        return
    said = "; ".join(str(offence) for offence in found[:_MOST_OFFENCES])
    more = f"; and {len(found) - _MOST_OFFENCES} more" if len(found) > _MOST_OFFENCES else ""
    raise KerasError(
        f"'{path}' is refused, because loading it could run code: {said}{more}",
        hint="add --unsafe if you trust the file; classes of your own are known once Python has "
        "registered them: tfldbg.trace(model, keras=live_model)",
    )


def _freeze_model(model: Any) -> Frozen:
    parts = [type(part).__name__ for part in getattr(model, "submodules", ())]
    _refuse_annotated(f"the model '{getattr(model, 'name', '')}'", parts.count("QuantizeAnnotate"))
    if not getattr(model, "inputs", None):
        raise KerasError(
            f"the {type(model).__name__} has no known inputs",
            hint="build it first, for example by calling it once on a batch",
        )
    with quiet(), collecting_later():
        import tensorflow as tf

        inputs = list(model.inputs)
        names = [_input_name(model, i, x) for i, x in enumerate(inputs)]
        argument = argument_of(model)

        @tf.function  # type: ignore[untyped-decorator]
        def forward(*given: Any) -> Any:
            return model(argument(given), training=False)

        concrete, batch = _traced(forward, inputs, names)
        outputs = [str(n) for n in getattr(model, "output_names", [])]
        return freeze(concrete, names, outputs, batch, _framework(model))


def argument_of(model: Any) -> Callable[[Sequence[Any]], Any]:
    """Return a function that turns one array per input into the argument of the model."""
    structure = getattr(model, "input", None)
    if isinstance(structure, dict):
        return lambda given: dict(zip(structure, given, strict=True))
    if isinstance(structure, (list, tuple)) or len(model.inputs) > 1:
        return list
    return lambda given: given[0]


def _input_name(model: Any, index: int, tensor: Any) -> str:
    names = getattr(model, "input_names", None)
    return str(names[index]) if names and index < len(names) else str(tensor.name).split(":")[0]


def _traced(forward: Any, inputs: Sequence[Any], names: Sequence[str]) -> tuple[Any, int | None]:
    """Trace with a dynamic batch size, or with the model's own if it does not allow any other.

    A model with a batch size of one may use the first axis for anything, so it keeps this size.
    """
    import tensorflow as tf

    def specs(batch: int | None) -> list[Any]:
        return [
            tf.TensorSpec((batch, *x.shape[1:]), x.dtype, name=_identifier(n))
            for x, n in zip(inputs, names, strict=True)
        ]

    own = inputs[0].shape[0]
    if own == 1:
        return forward.get_concrete_function(*specs(1)), 1
    try:
        return forward.get_concrete_function(*specs(None)), None
    except (ValueError, TypeError, tf.errors.OpError) as error:
        if own is None:
            raise KerasError(f"the Keras model cannot be traced: {error}") from error
        return forward.get_concrete_function(*specs(int(own))), int(own)


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name) or "input"


def _framework(model: Any) -> str:
    import keras
    import tf_keras

    if isinstance(model, tf_keras.Model):
        return f"tf_keras {tf_keras.__version__}"
    return f"keras {keras.__version__}"


def _freeze_saved_model(path: Path, signature: str | None, unsafe: bool) -> Frozen:
    with quiet():
        import tensorflow as tf

        try:
            if not unsafe:
                check_saved_model(path)
            loaded = tf.saved_model.load(str(path))
        except guard.RefusedError as error:
            raise _refused(path, str(error)) from error
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise KerasError(f"'{path}' is not a SavedModel: {error}", hint=_HINT) from error
        signatures = loaded.signatures
        key = signature or "serving_default"
        if key not in signatures:
            held = ", ".join(signatures) or "none"
            raise KerasError(
                f"'{path}' has no signature '{key}'; it has: {held}",
                hint="choose one with --signature NAME",
            )
        concrete = signatures[key]
        specs = concrete.structured_input_signature[1]
        order = {spec.name: name for name, spec in specs.items()}
        names = [order.get(node_of(t.name), node_of(t.name)) for t in user_inputs(concrete)]
        outputs = list(concrete.structured_outputs)
        sizes = {t.shape[0] for t in user_inputs(concrete) if t.shape.rank}
        batch = None if None in sizes else max(sizes, default=None)
        return freeze(concrete, names, outputs, batch, f"SavedModel, TensorFlow {tf.__version__}")
