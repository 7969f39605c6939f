"""Constants that are stored sparse."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sparse_file import CSR, DENSE, encode, sparse_file
from tfldbg.graph.load import load_graph
from tfldbg.graph.query import real_constant, stored
from tfldbg.graph.sparse import Level, Sparsity, densify

LAYOUTS = {
    "rows": ((0, 1), (), (), (DENSE, CSR)),
    "columns": ((1, 0), (), (), (DENSE, CSR)),
    "all compressed": ((0, 1), (), (), (CSR, CSR)),
    "blocks of 4 in a row": ((0, 1, 2), (1,), (4,), (DENSE, CSR, DENSE)),
    "blocks of 2 x 4": ((0, 1, 2, 3), (0, 1), (2, 4), (DENSE, CSR, DENSE, DENSE)),
    "blocks across": ((1, 0, 3, 2), (0, 1), (2, 4), (CSR, CSR, DENSE, DENSE)),
    "nothing left out": ((0, 1), (), (), (DENSE, DENSE)),
}


def pruned(kind: str, seed: int = 0) -> np.ndarray:
    """(8, 16) values, of which a fifth is not zero; two rows are empty."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(8, 16)) * 40 * (rng.random((8, 16)) < 0.2)
    values[[2, 5]] = 0
    return np.round(values).astype(kind)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_a_sparse_constant_is_the_array_that_was_stored(layout: str, kind: str) -> None:
    wanted = pruned(kind)
    sparsity, values = encode(wanted, *LAYOUTS[layout])
    found = densify(sparsity, wanted.shape, values)
    assert found is not None and found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_read_through_densify_and_dequantize(layout: str) -> None:
    wanted = pruned("float16")
    graph = load_graph(sparse_file(wanted, LAYOUTS[layout]))
    op = next(op for op in graph.main.operators if op.kind == "FULLY_CONNECTED")
    weights = stored(graph.main, op.inputs[1])
    assert weights is not None and weights.sparsity is not None
    found = real_constant(graph, weights)
    assert found is not None
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


def _rows(segments: list[int], indices: list[int]) -> Sparsity:
    numbers = (np.array(segments), np.array(indices))
    return Sparsity((0, 1), (), (Level(2), Level(0, *numbers)))


@pytest.mark.parametrize(
    "layout",
    [
        _rows([0, 1], [0]),  # too few rows
        _rows([0, 2, 1], [0]),  # backwards
        _rows([0, 0, 1], [4]),  # beyond the columns
        _rows([0, 0, 1], [-1]),
        _rows([0, 1, 2], [0, 1]),  # more places than values
        Sparsity((0, 0), (), (Level(2), Level(4))),
        Sparsity((0, 1), (), (Level(2),)),
        Sparsity((0, 1, 2), (7,), (Level(2), Level(4), Level(1))),
        Sparsity((2, 0, 1), (1,), (Level(1), Level(2), Level(4))),
    ],
)
def test_a_layout_that_contradicts_itself_yields_nothing(layout: Sparsity) -> None:
    assert densify(layout, (2, 4), np.ones(1, np.float32)) is None


def test_a_file_may_claim_any_shape() -> None:
    huge = Sparsity((0, 1), (), (Level(1 << 20), Level(1 << 20)))
    assert densify(huge, (1 << 20, 1 << 20), np.ones(1, np.float32)) is None
