"""Convert a Keras model or a SavedModel to .tflite with TensorFlow's converter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.errors import KerasError, UsageError
from tfldbg.graph.load import load_graph
from tfldbg.reference.keras import argument_of, load_frozen, load_live
from tfldbg.reference.refusals import conversion_error, needs_fixed_batch

if TYPE_CHECKING:
    from tfldbg.options.convert import Target
    from tfldbg.reference.evaluate import Frozen

Examples = Callable[[], Iterator[list[NDArray[Any]]]]
"""Returns samples: one array per input, in the input's type and shape, batch axis included."""

_LOOPS = ("While", "StatelessWhile")


@dataclass(frozen=True, slots=True, eq=False)
class Convertible:
    """A model that can be converted."""

    name: str
    """The name of the model in messages."""
    model: Any
    """The live Keras model, or None for a SavedModel."""
    signature: str | None
    """The signature of a SavedModel, or None."""
    frozen: Frozen

    @property
    def trained_ranges(self) -> bool:
        """Return whether the model was trained quantization-aware: fake-quant nodes hold ranges."""
        return any(n.op.startswith("FakeQuant") for n in self.frozen.graph.nodes.values())

    @property
    def loops(self) -> bool:
        """Return whether the graph holds a recurrent layer as a loop."""
        return any(n.op in _LOOPS for n in self.frozen.graph.nodes.values())


def open_source(path: Path, *, unsafe: bool = False, signature: str | None = None) -> Convertible:
    """Load the model to convert.

    Raises:
        KerasError: As for `tfldbg.reference.keras.load_frozen`.
    """
    if path.is_dir():
        key = signature or "serving_default"
        return Convertible(str(path), None, key, load_frozen(path, unsafe=unsafe, signature=key))
    model = load_live(path, unsafe=unsafe)
    return Convertible(str(path), model, None, load_frozen(model))


def save_live(model: Any, folder: Path) -> Path:
    """Save a live model into a folder, so that another process can load it.

    Raises:
        KerasError: The model cannot be saved.
    """
    import tf_keras

    path = folder / ("model.h5" if isinstance(model, tf_keras.Model) else "model.keras")
    try:
        save_whole(model, path)
    except (AttributeError, NotImplementedError, TypeError, ValueError, OSError) as error:
        raise KerasError(
            f"the live {type(model).__name__} cannot be saved for the conversion: {error}",
            hint="save it yourself and give the path",
        ) from error
    return path


def save_whole(model: Any, path: Path) -> None:
    """Save a Keras model without its optimizer."""
    from tfldbg.reference.quiet import quiet

    with quiet():
        if path.suffix == ".h5":
            model.save(path, include_optimizer=False)
        else:
            model.save(path)


def check_convertible(source: Convertible, target: Target) -> None:
    """Check that a quantization-aware model can be converted to the target.

    Raises:
        UsageError: The target cannot use the ranges that the model was trained with.
    """
    if not source.trained_ranges:
        return
    asked = "--per-tensor" if target.per_tensor else f"--type {target.type}"
    if target.per_tensor or target.type in ("int16x8", "float16"):
        raise UsageError(
            f"'{source.name}' was trained quantization-aware: its fake-quant nodes fix 8-bit "
            f"ranges, of activations and of weights, so {asked} would have no effect",
            hint="convert it with --type int8 or uint8 (--float-io keeps inputs and outputs "
            "float), or convert the float model that it was made from",
        )


def convert(source: Convertible, target: Target, examples: Examples | None) -> tuple[bytes, bool]:
    """Convert a model.

    Args:
        source: The model.
        target: The form to convert to.
        examples: The samples to calibrate on.  A model that was trained quantization-aware needs
            them only for tensors without a fake-quant node.

    Returns:
        The .tflite file, and True if the examples were used.

    Raises:
        KerasError: The converter refuses the model, or leaves operators float against the target.
        UsageError: The model needs examples and has none, or cannot be converted to the target.
    """
    check_convertible(source, target)
    if not target.integer:
        return _attempt(source, target, None), False
    if source.trained_ranges:
        content = _attempt(source, target, None)
        left = float_operators(content)
        if not left:
            return content, False
        if examples is None:
            raise KerasError(
                f"{_listed(left)} would stay float: the fake-quant nodes of '{source.name}' give "
                "no range for what they compute",
                hint="--data D.npz calibrates what has no range; --type dynamic leaves it float",
            )
    elif examples is None:
        raise UsageError(
            f"'{source.name}' is a float model: the ranges that {target.type} needs come from "
            "data, and none was given",
            hint="--data D.npz (a few hundred typical samples); --data random if the file only "
            "has to run; or --type dynamic, which needs no data",
        )
    content = _attempt(source, target, examples)
    left = float_operators(content)
    if left:
        raise KerasError(
            f"{_listed(left)} would stay float: the converter has no {target.type} form of it",
            hint="--type dynamic leaves the activations float; or replace the layer",
        )
    return content, True


def float_operators(content: bytes) -> list[tuple[int, str, str]]:
    """Return the operators that compute with floats as number, kind and output name.

    QUANTIZE and DEQUANTIZE are not included: they convert between integers and floats at the ends
    of a model with float inputs or outputs and around every float operator.
    """
    found = []
    for subgraph in load_graph(content, "the converted model").subgraphs:
        for op in subgraph.operators:
            read = [i for i in (*op.inputs, *op.outputs) if i >= 0]
            types = {subgraph.tensors[i].type for i in read}
            if op.kind not in ("QUANTIZE", "DEQUANTIZE") and types & {"FLOAT32", "FLOAT16"}:
                name = subgraph.tensors[op.outputs[0]].name if op.outputs else ""
                found.append((op.index, op.kind, name))
    return found


def _listed(operators: list[tuple[int, str, str]]) -> str:
    number, kind, name = operators[0]
    first = f"operator {number} {kind} '{name}'"
    more = len(operators) - 1
    return f"{first} and {more} other{'s' if more > 1 else ''}" if more else first


def _attempt(source: Convertible, target: Target, examples: Examples | None) -> bytes:
    """Convert with the model's own batch size, or with a batch of one if a loop requires it."""
    try:
        return _run(_converter(source), source, target, examples)
    except _ConverterError as refused:
        if source.model is None or not needs_fixed_batch(refused.said):
            raise conversion_error(source.name, target.type, refused.said) from refused
    try:
        return _run(_fixed_batch(source), source, target, examples)
    except _ConverterError as refused:
        raise conversion_error(source.name, target.type, refused.said) from refused


class _ConverterError(Exception):
    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def _run(converter: Any, source: Convertible, target: Target, examples: Examples | None) -> bytes:
    _configure(converter, source, target, examples)
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter raises whatever its parts raise
        raise _ConverterError(str(error) or type(error).__name__) from error


def _converter(source: Convertible) -> Any:
    import tensorflow as tf

    if source.model is None:
        return tf.lite.TFLiteConverter.from_saved_model(
            source.name, signature_keys=[source.signature]
        )
    return tf.lite.TFLiteConverter.from_keras_model(source.model)


def _fixed_batch(source: Convertible) -> Any:
    """Return a converter for the model with a batch of one."""
    import tensorflow as tf

    model, frozen = source.model, source.frozen
    argument = argument_of(model)

    @tf.function  # type: ignore[untyped-decorator]
    def forward(*given: Any) -> Any:
        return model(argument(given), training=False)

    specs = [
        tf.TensorSpec((1, *shape[1:]), dtype, name=name)
        for name, shape, dtype in zip(
            frozen.input_names, frozen.input_shapes, frozen.input_dtypes, strict=True
        )
    ]
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [forward.get_concrete_function(*specs)], _holder(model)
    )


def _holder(model: Any) -> Any:
    """Return the object in which the converter looks for the variables.

    For tf_keras this is the model, since its LSTM is not fused into one operator otherwise.  A
    Keras 3 model hides its variables from the converter, which would not make them constants.
    """
    import tensorflow as tf
    import tf_keras

    if isinstance(model, tf_keras.Model):
        return model
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    return holder


def _configure(
    converter: Any, source: Convertible, target: Target, examples: Examples | None
) -> None:
    import tensorflow as tf

    sets = tf.lite.OpsSet
    if target.type != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if target.type == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if target.per_tensor:
        converter._experimental_disable_per_channel = True
    if examples is not None:
        converter.representative_dataset = _representative(source, examples)
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        only = wide if target.type == "int16x8" else sets.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [only]
    if target.integer and not target.float_io:
        own = {"int8": tf.int8, "uint8": tf.uint8, "int16x8": tf.int16}[target.type]
        converter.inference_input_type = converter.inference_output_type = own


def _representative(
    source: Convertible, examples: Examples
) -> Callable[[], Iterator[list[NDArray[Any]] | Mapping[str, NDArray[Any]]]]:
    """Return samples by name if there are several inputs: the converter changes their order."""
    names = source.frozen.input_names

    def generate() -> Iterator[list[NDArray[Any]] | Mapping[str, NDArray[Any]]]:
        for sample in examples():
            yield sample if len(names) == 1 else dict(zip(names, sample, strict=True))

    return generate
