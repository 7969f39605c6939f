"""Every architecture of ``keras.applications``, untrained, at the smallest input it takes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from benchmarks.matrix.cases import BOTH, Case, Framework, Setting

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Pixels; all others take 32."""
WITH_PREPROCESSING = ("ConvNeXt", "EfficientNet", "MobileNetV3", "RegNet", "ResNetRS")
"""Families that scale whole numbers 0..255 themselves."""
OLD: tuple[Framework, ...] = ("tf_keras",)
NAMES: tuple[tuple[str, tuple[Framework, ...]], ...] = (
    ("MobileNetV3Small", BOTH),
    ("RegNetX002", OLD),
    ("RegNetY002", OLD),
    ("MobileNetV2", BOTH),
    ("EfficientNetB0", BOTH),
    ("MobileNet", BOTH),
    ("NASNetMobile", BOTH),
    ("RegNetY004", OLD),
    ("RegNetX004", OLD),
    ("MobileNetV3Large", BOTH),
    ("RegNetY006", OLD),
    ("RegNetX006", OLD),
    ("RegNetY008", OLD),
    ("RegNetX008", OLD),
    ("EfficientNetV2B0", BOTH),
    ("EfficientNetB1", BOTH),
    ("EfficientNetV2B1", BOTH),
    ("DenseNet121", BOTH),
    ("RegNetX016", OLD),
    ("EfficientNetB2", BOTH),
    ("EfficientNetV2B2", BOTH),
    ("RegNetY016", OLD),
    ("EfficientNetB3", BOTH),
    ("EfficientNetV2B3", BOTH),
    ("DenseNet169", BOTH),
    ("RegNetX032", OLD),
    ("VGG16", BOTH),
    ("DenseNet201", BOTH),
    ("RegNetY032", OLD),
    ("EfficientNetB4", BOTH),
    ("VGG19", BOTH),
    ("RegNetY040", OLD),
    ("EfficientNetV2S", BOTH),
    ("RegNetX040", OLD),
    ("Xception", BOTH),
    ("InceptionV3", BOTH),
    ("ResNet50", BOTH),
    ("ResNet50V2", BOTH),
    ("RegNetX064", OLD),
    ("ConvNeXtTiny", BOTH),
    ("EfficientNetB5", BOTH),
    ("RegNetY064", OLD),
    ("ResNetRS50", OLD),
    ("RegNetX080", OLD),
    ("RegNetY080", OLD),
    ("EfficientNetB6", BOTH),
    ("ResNet101", BOTH),
    ("ResNet101V2", BOTH),
    ("RegNetX120", OLD),
    ("ConvNeXtSmall", BOTH),
    ("RegNetY120", OLD),
    ("EfficientNetV2M", BOTH),
    ("RegNetX160", OLD),
    ("InceptionResNetV2", BOTH),
    ("ResNet152", BOTH),
    ("ResNet152V2", BOTH),
    ("ResNetRS101", OLD),
    ("EfficientNetB7", BOTH),
    ("RegNetY160", OLD),
    ("ResNetRS152", OLD),
    ("NASNetLarge", BOTH),
    ("ConvNeXtBase", BOTH),
    ("ResNetRS200", OLD),
    ("RegNetX320", OLD),
    ("EfficientNetV2L", BOTH),
    ("ResNetRS270", OLD),
    ("RegNetY320", OLD),
    ("ResNetRS350", OLD),
    ("ResNetRS420", OLD),
    ("ConvNeXtLarge", BOTH),
    ("ConvNeXtXLarge", BOTH),
)
"""Every architecture and who has it, by the number of weights; a test holds the names against the
frameworks."""


def architecture_cases() -> Iterator[Case]:
    """Yield a case for every architecture, the small ones first."""
    for name, frameworks in NAMES:
        size = SMALLEST.get(name, 32)
        values = "pixels" if name.startswith(WITH_PREPROCESSING) else "unit"
        setting = Setting(f"image {size}", (size, size, 3), None, values)
        make = functools.partial(_built, name, size)
        yield Case(f"applications.{name}", "", setting, make, frameworks, "application")


def _built(name: str, size: int, k: Any, batch: int | None) -> Any:
    """Return the network with ten classes; ``batch`` stands where others are given a tensor."""
    given = k.Input((size, size, 3), batch_size=batch, name="given")
    return getattr(k.applications, name)(input_tensor=given, weights=None, classes=10)


def architecture_names(k: Any) -> set[str]:
    """Return the architectures that a framework has."""
    return {
        n for n in dir(k.applications) if n[0].isupper() and callable(getattr(k.applications, n))
    }
