"""Pair the inputs and outputs of the two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfldbg.errors import MatchError

if TYPE_CHECKING:
    from tfldbg.graph.model import Signature, Subgraph, Tensor
    from tfldbg.reference.evaluate import Frozen
    from tfldbg.run.samples import InputSpec


def pair_inputs(
    specs: Sequence[InputSpec], frozen: Frozen, mapping: Mapping[str, str]
) -> tuple[int, ...]:
    """Return the reference input for every TFLite input.

    Args:
        specs: The TFLite inputs.
        frozen: The reference.
        mapping: The reference input name for each TFLite input name, from ``--input``.

    Returns:
        The number of the reference input for each TFLite input.

    Raises:
        MatchError: The models have different inputs, or several inputs with the same shape.
    """
    free = dict(enumerate(frozen.input_names))
    if len(specs) != len(free):
        raise MatchError(
            f"the .tflite takes {len(specs)} inputs, the reference {len(free)}: {_offer(frozen)}",
            hint="give the Keras model that the file was converted from",
        )
    chosen: dict[int, int] = {}
    for i, spec in enumerate(specs):
        wanted = [mapping[n] for n in spec.names if mapping.get(n) in free.values()]
        for name in (*wanted, *spec.names):
            found = [
                k for k, v in free.items() if v == name and _shape_fits(spec.tensor, frozen, k)
            ]
            if found:
                chosen[i] = found[0]
                del free[found[0]]
                break
    for i, spec in enumerate(specs):
        if i in chosen:
            continue
        fitting = [k for k in free if _shape_fits(spec.tensor, frozen, k)]
        rivals = [
            j
            for j in range(len(specs))
            if j not in chosen and _fits(specs[j].tensor, fitting, frozen)
        ]
        if not fitting:
            raise MatchError(
                f"no input of the reference has the shape of {spec.describe()}; {_offer(frozen)}",
                hint="give the Keras model that the file was converted from",
            )
        if len(fitting) > 1 or len(rivals) > 1:
            names = ", ".join(f"'{frozen.input_names[k]}'" for k in fitting)
            raise MatchError(
                f"input '{spec.label}' could be any of {names}, which have the same shape",
                hint=f"choose one with --input '{spec.label}={frozen.input_names[fitting[0]]}'",
            )
        chosen[i] = fitting[0]
        del free[fitting[0]]
    return tuple(chosen[i] for i in range(len(specs)))


def _fits(tensor: Tensor, numbers: Sequence[int], frozen: Frozen) -> bool:
    return any(_shape_fits(tensor, frozen, k) for k in numbers)


def _offer(frozen: Frozen) -> str:
    inputs = zip(frozen.input_names, frozen.input_shapes, strict=True)
    return "the reference takes " + ", ".join(f"'{n}' {list(s)}" for n, s in inputs)


def _shape_fits(tensor: Tensor, frozen: Frozen, number: int) -> bool:
    shape = frozen.input_shapes[number]
    theirs = [d for d in shape[1:] if d != 1]
    ours = [d for d in tensor.shape_signature[1:] if d != 1]
    return len(theirs) == len(ours) and all(
        a in (None, b) or b == -1 for a, b in zip(theirs, ours, strict=True)
    )


def pair_outputs(subgraph: Subgraph, signature: Signature | None, frozen: Frozen) -> dict[int, str]:
    """Return the reference tensor of every TFLite output that can be identified from outside.

    ``StatefulPartitionedCall:k`` is not the Keras output number, so only the signature's names, a
    single output or a unique shape are used.
    """
    nodes = {
        name: frozen.graph.handed_on(out)[-1]
        for name, out in zip(frozen.output_names, frozen.graph.outputs, strict=True)
    }
    outputs = [i for i in dict.fromkeys(subgraph.outputs) if not subgraph.tensors[i].has_data]
    found: dict[int, str] = {}
    for name, index in (signature.outputs if signature else {}).items():
        if name in nodes and _same_elements(subgraph.tensors[index], frozen, nodes[name]):
            found[index] = nodes[name]
    open_tensors = [i for i in outputs if i not in found]
    open_nodes = [n for n in nodes.values() if n not in found.values()]
    for index in open_tensors:
        tensor = subgraph.tensors[index]
        fitting = [n for n in open_nodes if _same_elements(tensor, frozen, n)]
        rivals = [i for i in open_tensors if subgraph.tensors[i].elements == tensor.elements]
        if len(fitting) == 1 and len(rivals) == 1:
            found[index] = fitting[0]
    return found


def _same_elements(tensor: Tensor, frozen: Frozen, name: str) -> bool:
    return frozen.graph.elements(name) in (None, tensor.elements)
