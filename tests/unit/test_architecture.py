"""What must stay true of the package as a whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

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


def test_no_module_imports_anything_heavy_when_it_is_loaded() -> None:
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{file.name}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert found == []


def test_help_and_inspect_do_not_import_tensorflow(samples: Path) -> None:
    code = (
        "import sys; from tfldbg.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'tf_keras', 'h5py'} & set(sys.modules), 'heavy'\n"
    )
    for arguments in (["--help"], ["trace", "--help"], ["inspect", str(samples / "cnn.tflite")]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, tfldbg\n"
        "tfldbg.TfldbgError\n"
        "assert not {'numpy', 'rich', 'typer', 'tensorflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_computing_never_prints() -> None:
    calls = [
        file.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert calls == []
