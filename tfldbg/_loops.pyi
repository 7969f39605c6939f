from typing import Any

from numpy.typing import NDArray

_Buffer = NDArray[Any]

def compare(
    test: _Buffer,
    reference: _Buffer,
    samples: int,
    channels: int,
    half: float,
    limits: tuple[float, float, float, float],
    sums: _Buffer,
    maxima: _Buffer,
    peaks: _Buffer,
    /,
) -> tuple[int, int] | None: ...
def clamp(
    values: _Buffer, low: float, high: float, below: float, above: float, out: _Buffer, /
) -> int: ...
def count(codes: _Buffer, counts: _Buffer, /) -> None: ...
def dequantize(codes: _Buffer, type: str, scale: float, zero: int, out: _Buffer, /) -> None: ...
def keep_memory() -> None: ...
