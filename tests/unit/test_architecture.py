"""What must stay true of the package as a whole."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tfldbg"
HEAVY = {
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "ai_edge_litert",
    "h5py",
    "model_explorer",
    "pandas",
}


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def test_no_module_imports_anything_heavy_when_it_is_loaded() -> None:
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in _tree(file).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{file.name}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert found == []


def test_computing_never_prints() -> None:
    calls = [
        file.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert calls == []


MADE_HERE = ("cli", "compare", "device", "diagnose", "match", "report", "session", "store")
SENTENCES = {
    "local_reason",
    "message",
    "predicate",
    "reason",
    "said",
    "sentence",
    "suggestion",
    "unmatched_reason",
    "why",
}
TAKING_APART = {
    "endswith",
    "find",
    "index",
    "partition",
    "removeprefix",
    "removesuffix",
    "rpartition",
    "rsplit",
    "split",
    "startswith",
}
OLDER = PACKAGE / "store" / "older.py"
"""Reads recordings of versions that stored sentences."""


def _taken_apart(tree: ast.AST) -> list[str]:
    """Return the expressions that take a field with a sentence apart, or look for words in one."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    held = {ast.unparse(n.targets[0]) for n in assigned if _is_sentence(n.value)}
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            read = [node.func.value] if node.func.attr in TAKING_APART else []
            read += node.args if ast.unparse(node.func.value) == "re" else []
        elif isinstance(node, ast.Compare):
            # Two fields may be compared, so that nothing is said twice; a field with words may not.
            sides, words = [node.left, *node.comparators], (ast.Constant, ast.JoinedStr)
            wholes = all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            read = sides if not wholes and any(isinstance(s, words) for s in sides) else []
        else:
            continue
        found += [node] if any(_is_sentence(n) or ast.unparse(n) in held for n in read) else []
    return [ast.unparse(node) for node in found]


def _is_sentence(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("op_label", "op_name")
    attribute = isinstance(node, ast.Attribute) and node.attr in SENTENCES
    return attribute or (isinstance(node, ast.Name) and node.id in SENTENCES - {"said"})


def test_no_code_takes_a_sentence_apart() -> None:
    files = [file for folder in MADE_HERE for file in (PACKAGE / folder).rglob("*.py")]
    found = {
        str(file.relative_to(PACKAGE)): _taken_apart(_tree(file)) for file in files if file != OLDER
    }
    assert {file: places for file, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "code",
    [
        "finding.message.partition(': ')[2]",
        "self.reason is not None and self.reason.startswith('unchecked: ')",
        "f': {said}' in document.sentence",
        "re.search('operator ([0-9]+)', finding.message)",
        "known = first.message\nknown.split()",
        "op.local_reason == 'it has no counterpart'",
        "'it has no counterpart' != reason",
    ],
)
def test_code_that_takes_a_sentence_apart_is_found(code: str) -> None:
    assert _taken_apart(ast.parse(code))


MOST_PARAMETERS = 7
PUBLIC = PACKAGE / "api.py"
"""Generated: one keyword for each option, for callers and their editors."""


def _with_many_parameters(tree: ast.AST) -> list[str]:
    """Return the functions with more parameters than `MOST_PARAMETERS`, ``self`` not counted."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            named = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            named += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
            own = named[:1] in (["self"], ["cls"])
            found += [node.name] if len(named) - own > MOST_PARAMETERS else []
    return found


def test_no_function_takes_many_parameters() -> None:
    found = {
        str(file.relative_to(PACKAGE)): _with_many_parameters(_tree(file))
        for file in PACKAGE.rglob("*.py")
        if file != PUBLIC
    }
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("code", "many"),
    [
        ("def f(a, b, c, d, e, f, g): ...", False),
        ("def f(a, b, c, d, e, f, *, g, h=1): ...", True),
        ("def f(a, b, c, d, e, f, g, **others): ...", True),
        ("class C:\n def f(self, a, b, c, d, e, f, g): ...", False),
        ("class C:\n def __init__(self, a, b, /, c, d, e, f, g, *h): ...", True),
    ],
)
def test_a_function_with_many_parameters_is_found(code: str, many: bool) -> None:
    assert bool(_with_many_parameters(ast.parse(code))) is many


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in _tree(file).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.strip("_"), []).append(str(file.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
