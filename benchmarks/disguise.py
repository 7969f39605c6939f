"""The same file without its names, its operators in another order: the verdict must not change."""

from __future__ import annotations

import random

from ai_edge_litert.tools import flatbuffer_utils

from sample_models.plant import File

DISGUISES = ("none", "stripped", "reordered")


def disguise(data: bytes, how: str, seed: int = 0) -> tuple[bytes, dict[int, int]]:
    """Return a file that computes the same, and the new index of each operator.

    Args:
        data: The file.
        how: One of `DISGUISES`.
        seed: Chooses among the valid orders.
    """
    file = File(data)
    order = list(range(file.count))
    if how == "stripped":
        flatbuffer_utils.strip_strings(file.model)
    elif how == "reordered":
        order = _other_order(file, random.Random(seed))  # noqa: S311
        file.subgraph.operators = [file.subgraph.operators[i] for i in order]
    else:
        return data, {i: i for i in order}
    return file.save(), {old: new for new, old in enumerate(order)}


def _other_order(file: File, chance: random.Random) -> list[int]:
    """Return an order in which every operator still comes after what it reads."""
    operators = file.subgraph.operators
    written = {int(i) for op in operators for i in op.outputs}
    waiting = list(range(len(operators)))
    known: set[int] = set()
    order = []
    while waiting:
        ready = [i for i in waiting if {int(t) for t in operators[i].inputs} & written <= known]
        chosen = chance.choice(ready)
        waiting.remove(chosen)
        order.append(chosen)
        known |= {int(t) for t in operators[chosen].outputs}
    return order
