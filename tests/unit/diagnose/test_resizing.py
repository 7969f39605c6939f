"""The bound of int16 RESIZE_BILINEAR is what its kernel does."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfldbg
from tests.loop_file import File

SCALE = 1e-4


def resized(read: int, made: int, half: bool) -> bytes:
    file = File()
    main = file.subgraph()
    given = main.tensor("INT16", [1, read, read, 2], None, SCALE, 0)
    size = main.tensor("INT32", [2], np.array([made, made], np.int32))
    out = main.tensor("INT16", [1, made, made, 2], None, SCALE, 0)
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = False, half
    main.operator("RESIZE_BILINEAR", [given, size], [out], options)
    main.ends([given], [out])
    return file.save()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("read", "made"), [(7, 12), (9, 7), (8, 16)])
def test_the_kernel_stays_within_the_bound(read: int, made: int, half: bool) -> None:
    data = np.random.default_rng(0).choice([-3.2, 3.2], (4, 1, read, read, 2)).astype(np.float32)
    result = tfldbg.trace(resized(read, made, half), data=data)
    (op,) = result.evidence.ops
    assert result.verdict == "clean", result.diagnosis.sentence
    assert op.local is not None and op.local.max_lsb is not None
    # The bound explains something where the places are no multiples of 1/1024, and little else.
    exact = made % read == 0
    assert (max(op.bound.extra_lsb) < 1.0) is exact
    assert exact or op.local.max_lsb > 0.02 * max(op.bound.extra_lsb)
