"""Dataclasses from JSON, by the types of their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

import pytest

from tfldbg.compare.metrics import Line
from tfldbg.diagnose.evidence import Body, Evidence
from tfldbg.diagnose.model import Divergence
from tfldbg.diagnose.outcome import Found
from tfldbg.store.typed import build


@dataclass(frozen=True, slots=True)
class Leaf:
    """Values of every plain type."""

    number: float
    count: int
    name: str | None
    kind: Literal["a", "b"]
    pair: tuple[float, int] | None = None
    rest: tuple[int, ...] = ()
    anything: dict[str, object] = field(default_factory=dict)
    option: bool | int | float | str = False


@dataclass(frozen=True, slots=True)
class Tree:
    """Dataclasses within."""

    leaves: tuple[Leaf, ...]
    named: Mapping[str, Leaf] = field(default_factory=dict)
    inner: Tree | None = None


def _leaf(**changes: Any) -> dict[str, Any]:
    return {"number": 1.5, "count": 2, "name": None, "kind": "a", **changes}


def test_what_json_holds_comes_back_as_it_was() -> None:
    leaf = Leaf(-math.inf, 3, "x", "b", (0.5, 1), (1, 2), {"deep": [1, {"a": None}]}, "y")
    tree = Tree((leaf, leaf), {"one": leaf}, Tree(()))
    assert build(Tree, json.loads(json.dumps(asdict(tree))), "tree") == tree


def test_missing_keys_take_the_default() -> None:
    tree = build(Tree, {"leaves": [_leaf()]}, "tree")
    assert tree == Tree((Leaf(1.5, 2, None, "a"),))


def test_nan_and_whole_numbers_are_floats() -> None:
    assert math.isnan(build(Leaf, _leaf(number=math.nan), "leaf").number)
    assert build(Leaf, _leaf(number=3), "leaf").number == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number": "1"}, "leaves[0].number is '1', expected float"),
        ({"number": True}, "leaves[0].number is 'True', expected float"),
        ({"count": 1.0}, "leaves[0].count is '1.0', expected int"),
        ({"name": 4}, "leaves[0].name is '4', expected str | None"),
        ({"kind": "c"}, "leaves[0].kind is 'c', expected typing.Literal['a', 'b']"),
        ({"kind": []}, "leaves[0].kind is '[]', expected typing.Literal['a', 'b']"),
        ({"pair": [1.0]}, "leaves[0].pair is '[1.0]', expected tuple[float, int]"),
        ({"pair": [1.0, "2"]}, "leaves[0].pair[1] is '2', expected int"),
        ({"rest": {"a": 1}}, "leaves[0].rest is '{'a': 1}', expected tuple[int, ...]"),
        ({"rest": [1, 2.5]}, "leaves[0].rest[1] is '2.5', expected int"),
        ({"anything": [1]}, "leaves[0].anything is '[1]', expected dict[str, object]"),
        ({"option": None}, "leaves[0].option is 'None', expected bool | int | float | str"),
        ({"more": 1}, "leaves[0] has an unexpected keyword argument 'more'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as caught:
        build(Tree, {"leaves": [_leaf(**changes)]}, "tree")
    assert str(caught.value).replace('"', "'") == f"tree.{words}"


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([], "tree is '[]', it must be a mapping"),
        ({}, "tree has no 'leaves'"),
        ({"leaves": [], "named": {"x": 1}}, "tree.named.x is '1', it must be a mapping"),
        (
            {"leaves": [], "inner": 1},
            "tree.inner is '1', expected tests.unit.store.test_typed.Tree",
        ),
    ],
)
def test_objects_are_objects(plain: Any, words: str) -> None:
    with pytest.raises(TypeError, match="^" + words.replace("[", r"\[")):
        build(Tree, plain, "tree")


def _dataclasses(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """Every dataclass that is part of another one."""
    if is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        yield kind
        inner: Any = get_type_hints(kind).values()  # NameError where only type checkers import it
    else:
        inner = get_args(kind)
    for part in inner:
        yield from _dataclasses(part, seen)


@pytest.mark.parametrize(
    ("kind", "part"), [(Evidence, Line), (Evidence, Body), (Found, Divergence)]
)
def test_the_types_of_all_that_is_stored_can_be_read_when_tfldbg_runs(kind: Any, part: Any) -> None:
    assert part in set(_dataclasses(kind, set()))
