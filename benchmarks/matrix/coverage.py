"""What the matrix covers, and why it leaves out what it leaves out."""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.matrix.architectures import architecture_cases
from benchmarks.matrix.cases import Case, Framework
from benchmarks.matrix.layers import layer_cases
from benchmarks.matrix.operators import operator_cases

LEFT_OUT: dict[str, str] = {
    "AbstractRNNCell": "abstract: a base class for cells of one's own",
    "DenseFeatures": "takes feature columns, a dictionary of features, and no tensor",
    "Equalization": "a functional model of Keras 3.15 holds its input in its place",
    "FlaxLayer": "wraps code of another framework, which must be installed",
    "JaxLayer": "wraps code of another framework, which must be installed",
    "Lambda": "holds code, which the product refuses to run unless asked",
    "Layer": "abstract: the base class",
    "MaxNumBoundingBoxes": "pads bounding boxes in a data pipeline; takes a dictionary",
    "StringLookup": "takes strings, which Keras files are not traced with",
    "TFSMLayer": "wraps a SavedModel, whose folder it reads when it is loaded",
    "TextVectorization": "takes strings, which Keras files are not traced with",
    "tf_keras.SpectralNormalization": "does not build: it mixes tf_keras with Keras 3",
    "TorchModuleWrapper": "wraps code of another framework, which must be installed",
    "Wrapper": "abstract: the base class of wrappers",
}
"""Layer classes without a case, and why; where one framework alone is meant it stands before."""


@functools.cache
def all_cases() -> dict[str, Case]:
    """Return every case by name."""
    found: dict[str, Case] = {}
    for case in (*layer_cases(), *operator_cases(), *architecture_cases()):
        if case.name in found:
            raise ValueError(f"two cases are called {case.name}")
        found[case.name] = case
    return found


def layer_classes(framework: Framework) -> set[str]:
    """Return the names of all public layer classes, each class once."""
    from benchmarks.matrix.build import framework as module

    layers = module(framework).layers
    classes: dict[Any, str] = {}
    for name in dir(layers):
        found = getattr(layers, name)
        if isinstance(found, type) and issubclass(found, layers.Layer):
            own = found.__name__
            classes.setdefault(found, own if getattr(layers, own, None) is found else name)
    return set(classes.values())


def uncovered(framework: Framework) -> set[str]:
    """Return the layer classes that have neither a case nor a reason."""
    covered = {
        c.layer for c in all_cases().values() if c.group == "layer" and framework in c.frameworks
    }
    reasons = {name.removeprefix(f"{framework}.") for name in LEFT_OUT}
    return layer_classes(framework) - covered - reasons
