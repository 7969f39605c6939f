"""What the converter says, in plain words; the texts are the converter's own (TensorFlow 2.21)."""

from __future__ import annotations

import pytest

from tfldbg.reference.refusals import conversion_error, crash, needs_fixed_batch

LOOP = (
    "model.py:17:1: error: 'tf.TensorListReserve' op requires element_shape to be static during TF "
    "Lite transformation pass\n    model(x)\n^\nmodel.py:17:1: error: failed to legalize operation "
    "'tf.TensorListReserve' that was explicitly marked illegal\n"
)
NO_COUNTERPART = (
    "Could not translate MLIR to FlatBuffer.model.py:10:1: error: 'tf.Erf' op is neither a custom "
    "op nor a flex op\nSome ops are not supported by the native TFLite runtime, you can enable TF "
    "kernels fallback using TF Select. See instructions: https://www.tensorflow.org/lite\n"
    "TF Select ops: Erf, DenseBincount\nDetails:\n\ttf.Erf(tensor<?x8xf32>)\n"
)
CUSTOM = "Some ops in the model are custom ops\nCustom ops: Erfinv\nDetails:\n"
WIDE = "Quantization to 16x8-bit not yet supported for op: 'UNIDIRECTIONAL_SEQUENCE_LSTM'.\n"
SOFTMAX = (
    "model.py:34:1: error: 'tfl.softmax' op failed to verify that input and output must have same "
    "element type\n    convert()\n^\n"
)


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        (LOOP, "needs a fixed batch size", "unroll=True"),
        (NO_COUNTERPART, "no operator for TensorFlow's Erf, DenseBincount", "replace"),
        (CUSTOM, "no operator for TensorFlow's Erfinv", "replace"),
        (WIDE, "no int16x8 form of the operator UNIDIRECTIONAL_SEQUENCE_LSTM", "--type dynamic"),
        (SOFTMAX, "'tfl.softmax' op failed to verify that input and output", "--type"),
        ("", "it gave no reason", "--type"),
    ],
)
def test_a_refusal_is_one_plain_line(said: str, words: str, hint: str) -> None:
    error = conversion_error("m.h5", "int16x8", said)
    assert words in error.message and "'m.h5' as int16x8" in error.message
    assert "\n" not in error.message
    assert error.hint is not None and hint in error.hint


def test_only_a_free_batch_size_is_worth_a_second_try() -> None:
    assert needs_fixed_batch(LOOP)
    assert not any(map(needs_fixed_batch, (NO_COUNTERPART, CUSTOM, WIDE, SOFTMAX)))


def test_a_crash_says_how_and_what_was_said_last() -> None:
    stderr = (
        "I0000 00:00:1 port.cc:153] oneDNN is on\nLLVM ERROR: Failed to infer result type(s).\n"
    )
    error = crash("m.h5", "int8", "signal SIGABRT", stderr, loops=False)
    assert "SIGABRT" in error.message and "Failed to infer result type" in error.message
    assert "oneDNN" not in error.message
    error = crash("m.h5", "int8", "signal SIGSEGV", "", loops=True)
    assert "recurrent" in error.message
    assert error.hint is not None and "unroll=True" in error.hint
