"""Which tensors have one scale and zero point."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.graph.model import QuantParams, Tensor
from tfldbg.quant import Affine

ANY = st.floats(width=32)  # infinities and NaN among them


def _tensor(type_name: str, params: QuantParams | None) -> Tensor:
    about = (0, "x", type_name, (3,), (3,), params)
    return Tensor(*about, buffer=0, is_variable=False, has_data=False)


@given(
    st.sampled_from(["INT8", "UINT8", "INT16", "INT32", "FLOAT32", "BOOL"]),
    st.lists(ANY, min_size=0, max_size=3),
    st.integers(-128, 127),
    st.sampled_from([None, 32]),
)
def test_integers_with_one_scale_have_it(
    type_name: str, scales: list[float], zero_point: int, block: int | None
) -> None:
    params = QuantParams(np.float32(scales), np.array([zero_point]), block_size=block)
    tensor = _tensor(type_name, params)
    usable = len(scales) == 1 and math.isfinite(scales[0]) and scales[0] > 0
    if usable and block is None and "INT" in type_name:
        assert tensor.affine == Affine(scales[0], zero_point)
        assert (tensor.lsb, tensor.zero_point) == (scales[0], zero_point)
    else:
        assert (tensor.affine, tensor.lsb, tensor.zero_point) == (None, None, None)


def test_a_tensor_without_parameters_has_none() -> None:
    assert _tensor("INT8", None).affine is None
