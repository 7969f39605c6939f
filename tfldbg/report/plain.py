"""Make foreign text safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace control characters, so that a tensor's name cannot control the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
