"""Explain why a runtime refused a file: the operators that it lacks, and their requirements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.errors import RunError
from tfldbg.graph.query import custom_operators
from tfldbg.options.runtimes import TRY_ANOTHER

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph

_COMPILED = frozenset({"DISPATCH_OP", "NPU_OP", "edgetpu-custom-op", "ethos-u"})
"""Custom operators with a program for an accelerator (LiteRT, Edge TPU and Vela compilers)."""

_UNRESOLVED = re.compile(r"unresolved custom op: (.+?)\. See instructions")
_FLEX = re.compile(r"Select TensorFlow op\(s\)|Regular TensorFlow ops are not supported")
_NO_KERNEL = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_NODE = re.compile(r" ?Node number (\d+) \((.+?)\) failed to \w+\.?")
_RECORD = "record it where they exist: tfldbg kit MODEL.tflite -o FOLDER"
_MOST = 6


def refused(runtime: str, name: str, subgraph: Subgraph, said: str) -> RunError:
    """Return the error for a runtime that refused a file.

    Args:
        runtime: The kernels.
        name: The name of the file in messages.
        subgraph: The subgraph to run.
        said: The text of the runtime's exception on one line, or its type where it has none.
    """
    known = _known(runtime, subgraph, said)
    if known is not None:
        return RunError(f"the {runtime} runtime refused '{name}': {known[0]}", hint=known[1])
    node = _NODE.search(said)
    ops = subgraph.operators[int(node[1]) : int(node[1]) + 1] if node else ()
    where = ""
    if node and ops and ops[0].kind == node[2]:  # not an operator of another subgraph
        where, said = f" at operator {node[1]} {node[2]}", said.replace(node[0], "")
    return RunError(
        f"the {runtime} runtime refused '{name}'{where}: {said}",
        hint=TRY_ANOTHER,
    )


def _known(runtime: str, subgraph: Subgraph, said: str) -> tuple[str, str] | None:
    """Return the requirements of an operator that the runtime lacks, and a hint."""
    if unresolved := _UNRESOLVED.search(said):
        return _custom(runtime, subgraph, unresolved[1])
    if _FLEX.search(said):
        flex = [op for op in subgraph.operators if op.kind.startswith("Flex")]
        return (
            f"it has no Flex delegate, which TensorFlow operators (Select TF ops) need: "
            f"{_by_kind(flex) or 'those of another subgraph'}",
            f"convert the model without tf.lite.OpsSet.SELECT_TF_OPS, or {_RECORD}",
        )
    if missing := _NO_KERNEL.search(said):
        kind, version = missing.groups()
        ops = [op for op in subgraph.operators if op.kind == kind]
        return (
            f"it has no kernel for version {version} of {_by_kind(ops) or kind}",
            "choose other kernels with --runtime xnnpack, builtin or reference",
        )
    return None


def _custom(runtime: str, subgraph: Subgraph, kind: str) -> tuple[str, str]:
    """Return the reason and hint for a custom operator that the runtime lacks."""
    custom = custom_operators(subgraph)
    ops = [op for op in custom if op.kind == kind]
    named = _by_kind(ops) or f"{kind} of another subgraph"
    if kind in _COMPILED:
        return (
            f"{named} holds a program compiled for an accelerator, which only the delegate of that "
            "accelerator runs",
            "trace the .tflite file that was compiled for the accelerator",
        )
    others = [op for op in custom if op.kind != kind]
    more = f"other custom operators: {_by_kind(others)}" if others else "all others are builtin"
    other_kernels = "" if runtime == "xnnpack" else "try --runtime xnnpack, "
    return (
        f"it does not have the custom operator {named}; {more}",
        f"{other_kernels}convert the model without custom operators, or {_RECORD}",
    )


def _by_kind(ops: Sequence[Operator]) -> str:
    """Return a list of operators: ``Foo (operators 3, 4), Bar (operator 7)``."""
    kinds: dict[str, list[int]] = {}
    for op in ops:
        kinds.setdefault(op.kind, []).append(op.index)
    return ", ".join(f"{kind} ({_numbered(numbers)})" for kind, numbers in kinds.items())


def _numbered(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _MOST} more" if len(numbers) > _MOST else ""
    word = "operator" if len(numbers) == 1 else "operators"
    return f"{word} {', '.join(map(str, numbers[:_MOST]))}{more}"
