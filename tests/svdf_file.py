"""The smallest file whose operator keeps a state for itself."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.unit.diagnose.test_rules_file import Network


def svdf_file(seed: int = 1) -> bytes:
    """A float SVDF that keeps the last four products of each of its units."""
    generator = np.random.default_rng(seed)
    network = Network()
    given, out = (network.tensor("FLOAT32", (1, 6)) for _ in range(2))
    feature = network.constant(generator.normal(size=(6, 6)).astype(np.float32))
    time = network.constant(generator.normal(size=(6, 4)).astype(np.float32))
    state = network.tensor("FLOAT32", (1, 24), variable=True)
    options = schema.SVDFOptionsT()
    options.rank = 1
    inputs = (given, feature, time, -1, state)
    network.operator("SVDF", inputs, (out,), ("SVDFOptions", options))
    return network.finish([given], [out])
