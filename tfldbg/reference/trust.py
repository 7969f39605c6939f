"""The objects that a Keras file may ask for: classes of Keras that compute, and no others.

Loading a Keras file means building the objects that its configuration names.  Some of them run
code from the file (``Lambda``), some read other files, and a name with a module can be any
callable of any installed package.  Keras's ``safe_mode`` only refuses the first group, and not in
``.h5`` files.  So this module lists what is allowed: layers and their parts from Keras and from the
quantization of tfmot, and objects that the caller has registered with Keras.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_REASONS: Mapping[str, str] = {
    "Lambda": "carries Python code",
    "__lambda__": "carries Python code",
    "TorchModuleWrapper": "carries a pickle, which can run code",
    "JaxLayer": "carries Python code",
    "FlaxLayer": "carries Python code",
    "TFSMLayer": "loads another model from a path",
    "TensorFlowOpLayer": "carries any operator of TensorFlow, those that write files included",
    "ClassMethod": "calls any class method of TensorFlow",
    "InstanceMethod": "calls any method of a tensor",
    "InstanceProperty": "reads any attribute of a tensor",
    "BaseFeaturesLayer": "may read files",
}
"""The classes of Keras that are refused, with all classes derived from them."""

_DATA = frozenset(
    {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__"}
    | {"__tuple__", "TensorShape", "TypeSpec", "CompositeTensor"}
)
"""The names of plain data in places of classes."""

_FRAMEWORKS = ("keras", "tf_keras")
_TFMOT = "tensorflow_model_optimization"
_NAMESPACES = (
    "layers",
    "models",
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "optimizers",
    "optimizers.legacy",
    "optimizers.schedules",
    "dtype_policies",
    "mixed_precision",
    "quantizers",
    "random",
)
_FUNCTIONS = ("activations", "losses", "metrics", "ops")
"""The namespaces of allowed functions."""
_BASES = (
    "layers.Layer",
    "Operation",
    "initializers.Initializer",
    "regularizers.Regularizer",
    "constraints.Constraint",
    "losses.Loss",
    "metrics.Metric",
    "optimizers.Optimizer",
    "optimizers.legacy.Optimizer",
    "optimizers.schedules.LearningRateSchedule",
    "dtype_policies.DTypePolicy",
    "mixed_precision.Policy",
    "quantizers.Quantizer",
    "random.SeedGenerator",
)

_KERAS_FUNCTION = re.compile(r"keras\.(activations|backend)\.\w+")
_COMPUTING = re.compile(
    r"tensorflow\.python\.(framework\.tensor_conversion|ops\.((gen_)?("
    r"(array|bincount|bitwise|candidate_sampling|check|clip|ctc|data_flow|embedding|histogram|"
    r"image|linalg|manip|math|nn|ragged_array|random|random_crop|random_index_shuffle|sort|sparse|"
    r"special_math|spectral|stateless_random|string)_ops(_impl|_stack)?|"
    r"confusion_matrix|control_flow_(assert|ops)|losses\.losses_impl|nn_impl|"
    r"nn_impl_distribute|numerics|sets_impl|tensor_getitem_override)|"
    r"(linalg|ragged|signal)\.(?!ragged_functional)\w+))"
)
"""The modules of TensorFlow whose functions compute tensors from tensors.

Others read and write files (``io_ops``, ``logging_ops``), call Python (``script_ops``,
``functional_ops``, ``cond``), talk to other machines, or pass a program to another compiler."""


@dataclass(frozen=True, slots=True)
class Offence:
    """One object that a file may not ask for."""

    layer: str
    """The layer that it belongs to, empty if no layer has a name."""
    kind: str
    reason: str

    def __str__(self) -> str:
        where = f"layer '{self.layer}' ({self.kind})" if self.layer else f"'{self.kind}'"
        return f"{where} {self.reason}"


def offences(config: Any, framework: Any) -> list[Offence]:
    """Return every object in the configuration of a model that is not allowed.

    This imports and builds nothing.

    Args:
        config: The configuration of the model, as parsed from its JSON.  Its training settings at
            the top level are left out, because models are loaded without them.
        framework: The module that will load it: ``keras`` or ``tf_keras``.
    """
    rules = _Rules(framework)
    found: dict[Offence, None] = {}
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key != "compile_config"}
    stack: list[tuple[Any, str]] = [(config, "")]
    while stack:
        item, layer = stack.pop()
        if isinstance(item, dict):
            layer = _name(item) or layer
            found.update((offence, None) for offence in rules.check(item, layer))
            stack += ((value, layer) for value in reversed(item.values()))
        elif isinstance(item, list):
            stack += ((value, layer) for value in reversed(item))
    return list(found)


def names_registered(config: Any, framework: Any) -> bool:
    """Return whether the configuration of a model names objects that the caller has registered.

    Such objects are not in the file, and another run may register others.

    Args:
        config: As for `offences`.
        framework: As for `offences`.
    """
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, str):
            found = framework.saving.get_registered_object(item)
            if found is not None and _root(found) not in (*_FRAMEWORKS, _TFMOT):
                return True
    return False


def architecture_layers(framework: Any) -> dict[str, type[Any]]:
    """Return the layers that the modules of ``applications`` define, by class name.

    They belong to Keras and compute, but its loaders only find them if they are passed.

    Args:
        framework: The module that defines them: ``keras`` or ``tf_keras``.
    """
    start = f"{framework.applications.__name__.partition('.')[0]}.src.applications."
    found: dict[str, type[Any]] = {}
    for name, module in list(sys.modules.items()):
        for key, value in vars(module).items() if name.startswith(start) else ():
            own = inspect.isclass(value) and value.__module__ == name
            if own and issubclass(value, framework.layers.Layer):
                found[key] = value
    return found


def _root(found: Any) -> str:
    return str(getattr(found, "__module__", "")).partition(".")[0]


def _name(item: Mapping[str, Any]) -> str:
    config = item.get("config")
    name = config.get("name") if isinstance(config, dict) and "class_name" in item else None
    return name if isinstance(name, str) else ""


class _Rules:
    """The rules for the objects that one framework may be asked for."""

    def __init__(self, framework: Any) -> None:
        self._framework = framework
        found = (_attribute(framework, path) for path in _BASES)
        self._bases = tuple(base for base in found if inspect.isclass(base))
        self._of_architectures = architecture_layers(framework)

    def check(self, item: Mapping[str, Any], layer: str) -> Iterator[Offence]:
        if isinstance(item.get("vocabulary"), str):
            yield Offence(layer, "vocabulary", f"reads the file '{item['vocabulary']}'")
        if "class_name" not in item:
            return
        name = item["class_name"]
        if not isinstance(name, str):
            yield Offence(layer, str(name), "is not the name of a class")
            return
        reason = self._refusal(name, item)
        if reason:
            yield Offence(layer, name, reason)

    def _refusal(self, name: str, item: Mapping[str, Any]) -> str | None:
        """Return why an object is refused, or None if it is allowed."""
        if name in _DATA or ("config" not in item and name not in _REASONS):
            return None
        if name in _REASONS:
            return _REASONS[name]
        if name == "__typespec__":
            return self._foreign_spec(item)
        module = item.get("module")
        if module is not None and not isinstance(module, str):
            return "has a module that is not a name"
        if name == "function":
            return self._foreign_function(item["config"], module)
        candidates = list(self._candidates(name, module, item))
        if not candidates or not all(self._allowed(*c) for c in candidates):
            return next(filter(None, (_derived(c[0]) for c in candidates)), _foreign(module))
        return self._foreign_symbol(name, item["config"])

    def _candidates(
        self, name: str, module: str | None, item: Mapping[str, Any]
    ) -> Iterator[tuple[Any, bool]]:
        """Yield the classes that Keras may find for a name, and whether each was registered."""
        for key in dict.fromkeys((item.get("registered_name"), name)):
            found = self._registered(key)
            if found is not None:
                yield found, True
        if module:
            found = self._by_module(name, module)
            if found is not None:
                yield found, False
            elif module.partition(".")[0] not in _FRAMEWORKS:
                return
        known = (_attribute(self._framework, f"{space}.{name}") for space in _NAMESPACES)
        own = [*known, self._internal(name)]
        yield from ((found, False) for found in own if inspect.isclass(found))

    def _registered(self, name: object) -> Any:
        if not isinstance(name, str):
            return None
        return self._framework.saving.get_registered_object(name)

    def _internal(self, name: str) -> Any:
        """Return a class that Keras loads by name alone although its API does not export it."""
        if name in self._of_architectures:
            return self._of_architectures[name]
        if self._framework.__name__ != "tf_keras":
            modules = ("keras.src.layers", "keras.src.models")
            found = (getattr(sys.modules.get(module), name, None) for module in modules)
            return next(filter(inspect.isclass, found), None)
        from tf_keras.src import initializers
        from tf_keras.src.layers import serialization

        initializers.populate_deserializable_objects()
        serialization.populate_deserializable_objects()
        layers = serialization.LOCAL.ALL_OBJECTS
        return layers.get(name) or initializers.LOCAL.ALL_OBJECTS.get(name)

    def _by_module(self, name: str, module: str) -> Any:
        root, _, rest = module.partition(".")
        if root in _FRAMEWORKS:
            found = _attribute(self._framework, f"{rest}.{name}".lstrip("."))
            if found is not None:
                return found
            module = ".".join(filter(None, (self._framework.__name__, rest)))
        elif root != _TFMOT:
            return None
        return getattr(sys.modules.get(module), name, None)

    def _allowed(self, found: Any, registered: bool) -> bool:
        if not inspect.isclass(found):
            return registered
        if _derived(found):
            return False
        return registered or _root(found) == _TFMOT or self._own(found)

    def _own(self, found: Any) -> bool:
        return _root(found) in _FRAMEWORKS and issubclass(found, self._bases)

    def _foreign_function(self, name: object, module: str | None) -> str | None:
        if self._registered(name) is not None:
            return None
        if not isinstance(name, str):
            return "has a function that is not a name"
        root = (module or "").partition(".")[0]
        own = [_attribute(self._framework, f"{space}.{name}") for space in _FUNCTIONS]
        if root == "builtins" and any(callable(f) for f in own):
            return None
        if root in _FRAMEWORKS:
            found = self._by_module(name, str(module))
            if found is not None and any(found is f for f in own):
                return None
        return f"asks for the function '{name}' of '{module}', which does not belong to Keras"

    def _foreign_spec(self, item: Mapping[str, Any]) -> str | None:
        known = ("TensorSpec", "SparseTensorSpec", "RaggedTensorSpec")
        module = str(item.get("module"))
        if item.get("spec_name") in known and module.startswith("tensorflow.python."):
            return None
        return f"asks for '{item.get('spec_name')}' of '{module}'"

    def _foreign_symbol(self, name: str, config: Any) -> str | None:
        """Return why the function of a layer that calls TensorFlow is refused, or None."""
        if name not in ("TFOpLambda", "SlicingOpLambda"):
            return None
        symbol = str(config.get("function")) if isinstance(config, dict) else ""
        if _KERAS_FUNCTION.fullmatch(symbol) or _computes(symbol):
            return None
        return f"calls tf.{symbol}, which is not arithmetic"


def _computes(symbol: str) -> bool:
    """Return whether a name is that of a TensorFlow function that only computes.

    Only functions with dispatch are allowed, because calls on a layer's tensors go to the layer.
    """
    from tensorflow.python.util import dispatch, tf_decorator, tf_export

    function = tf_export.get_symbol_from_name(symbol)
    ways = (dispatch.FALLBACK_DISPATCH_ATTR, dispatch.TYPE_BASED_DISPATCH_ATTR)
    if inspect.isclass(function) or not any(hasattr(function, way) for way in ways):
        return False
    _, undecorated = tf_decorator.unwrap(function)
    return _COMPUTING.fullmatch(undecorated.__module__) is not None


def _derived(found: Any) -> str | None:
    """Return why a class is refused because of its base classes, or None."""
    mro = found.__mro__ if inspect.isclass(found) else ()
    return next((_REASONS[c.__name__] for c in mro if c.__name__ in _REASONS), None)


def _foreign(module: str | None) -> str:
    return (
        f"is of '{module}', which does not belong to Keras" if module else "is not a class of Keras"
    )


def _attribute(root: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        root = getattr(root, part, None)
    return root
