"""Convert evidence from earlier versions to the form of this version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tfldbg.diagnose.traits import ITSELF, NO_REFERENCE, Traits
from tfldbg.diagnose.words import op_name
from tfldbg.options.against import EMULATIONS

TRAITS: Mapping[str, Traits] = {
    "self": ITSELF,
    "keras": Traits(full_precision=True, has_insides=True, divisible=True),
    "tflite": Traits(other_file=True, has_insides=True, divisible=True),
    "capture": Traits(kernels=True, recorded=True),
    "runtime": Traits(kernels=True),
    **dict.fromkeys(EMULATIONS, Traits(of_the_file=True, rounds=True, has_insides=True)),
    "none": NO_REFERENCE,
}
"""The traits of each kind of reference, which earlier versions did not record."""


def renewed(plain: Any) -> Any:
    """Return evidence with everything that this version records.

    Args:
        plain: Evidence from JSON.  Other values are returned unchanged.

    Raises:
        TypeError: The number of an operator is a list or an object.
    """
    if not isinstance(plain, dict):
        return plain
    made = _with_measures(_with_traits(_with_subjects(plain)))
    if isinstance(plain.get("bodies"), list):
        made["bodies"] = [_body(body) for body in plain["bodies"]]
    return made


def _body(plain: Any) -> Any:
    """Return a subgraph that an operator runs, with renewed evidence."""
    if not isinstance(plain, dict) or "evidence" not in plain:
        return plain
    return {**plain, "evidence": renewed(plain["evidence"])}


_MEASURES: Mapping[str, Any] = {"accuracy": None, "worst": [], "compounding": None, "steps": None}
"""The value of each measurement that earlier versions recorded if it was not asked for."""
_PICTURES = {"local": "local_points", "accumulated": "accumulated_points"}


def _with_measures(plain: dict[str, Any]) -> dict[str, Any]:
    """Return evidence that holds the results of measurements by name, as operators once did."""
    if "measures" in plain:
        return plain
    measures = {
        name: plain[name]
        for name, unset in _MEASURES.items()
        if name in plain and plain[name] != unset
    }
    made = _without(plain, tuple(_MEASURES))
    ops = _objects(plain.get("ops"))
    pictures = {
        side: {str(op.get("tensor")): op[key] for op in ops if op.get(key) is not None}
        for side, key in _PICTURES.items()
    }
    if any(pictures.values()):
        measures["pictures"] = pictures
    if isinstance(plain.get("ops"), list):
        made["ops"] = [_without(op, tuple(_PICTURES.values())) for op in plain["ops"]]
    return {**made, "measures": measures}


def _without(plain: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(plain, dict):
        return plain
    return {key: value for key, value in plain.items() if key not in keys}


def _with_traits(plain: dict[str, Any]) -> dict[str, Any]:
    """Return evidence whose run has the traits of its reference."""
    run = plain.get("run")
    if not isinstance(run, dict) or "traits" in run:
        return plain
    kind = run.get("reference_kind")
    traits = TRAITS.get(kind, NO_REFERENCE) if isinstance(kind, str) else NO_REFERENCE
    return {**plain, "run": {**run, "traits": asdict(traits)}}


def _with_subjects(plain: dict[str, Any]) -> dict[str, Any]:
    """Return evidence whose findings have subjects and predicates.

    Earlier versions recorded the message of a finding, in which the operator's name comes before
    the predicate.  No other code splits a message.

    Raises:
        TypeError: The number of an operator is a list or an object.
    """
    kinds = {op.get("op"): op.get("kind") for op in _objects(plain.get("ops"))}
    made = dict(plain)
    if isinstance(plain.get("file"), list):
        made["file"] = [_with_subject(finding, kinds) for finding in plain["file"]]
    return made


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _with_subject(plain: Any, kinds: Mapping[Any, Any]) -> Any:
    if not isinstance(plain, dict) or "message" not in plain:
        return plain
    message, op, tensor = plain["message"], plain.get("op"), plain.get("tensor")
    kind = kinds.get(op)
    made = _without(plain, ("message",))
    if isinstance(message, str) and isinstance(kind, str) and isinstance(tensor, str):
        name = f"{op_name(op, kind, tensor)}: "  # type: ignore[arg-type]
        if message.startswith(name):
            subject = {"op": op, "kind": kind, "tensor": tensor}
            return {**made, "predicate": message[len(name) :], "subject": subject}
    return {**made, "predicate": message}
