"""Sound models: nothing is said of them but what is true of them."""

from __future__ import annotations

import tfldbg

TRUE_OF_THEM = {
    # Built in training mode, where batch norms make values larger than at inference.
    ("conv", "TFL018"),
    ("mobilenet_v1", "TFL018"),
    ("mobilenet_v2", "TFL018"),
    # The first rows of a digit are blank, so that the first steps use few codes.
    ("lmu_ptq", "TFL018"),
    # A Dense on sequences and a dilated convolution become several operators, some of which QAT
    # leaves in float.
    ("sequence", "TFL024"),
    ("dilated", "TFL024"),
    # One scale for all channels, some of which are all but zero.
    ("coral_mobilenet_v1_025_128_uint8.tflite", "TFL019"),
    ("mlperf_ad_dynrange.tflite", "TFL019"),
    # Its state is kept in resources, which no float copy can read.
    ("mww_okay_nabu_stream_int8.tflite", "TFL007"),
}
"""By model the warnings that it deserves."""


def assert_sound(result: tfldbg.Trace, model: str) -> None:
    """Assert that a trace is clean and warns of nothing but what is true of the model."""
    assert result.verdict == "clean", result.diagnosis.sentence
    said = [f for f in result.diagnosis.findings if f.severity != "info"]
    wrong = [f"{f.code} {f.message}" for f in said if (model, f.code) not in TRUE_OF_THEM]
    assert not wrong
