"""Fixtures.  What is slow (TensorFlow, conversion) is built once a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from benchmarks import zoo
from tfldbg.reference.cache import FOLDER_VARIABLE

settings.register_profile("tfldbg", deadline=None)
settings.register_profile("unit", deadline=None, max_examples=25)
settings.load_profile("tfldbg")

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "tests" / "unit"
SHARED = ROOT.parent / "shared" / "models"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the goldens and README output")


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where only unit tests run, which is after every change."""
    here = config.invocation_params.dir
    files = [(here / argument.partition("::")[0]).resolve() for argument in config.args]
    if all(file.is_relative_to(UNIT) for file in files):
        settings.load_profile("unit")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the user's cache alone; commands that tests run share one of their own."""
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """Undo what nohup, or a shell's ``&``, hands down to every child: that these are ignored."""
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample models of the repository."""
    return ROOT / "sample_models"


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Real third-party models, where this checkout has them beside it."""
    if not SHARED.is_dir():
        pytest.skip("the third-party models are not part of the product and not here")
    return SHARED


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], zoo.Pair]:
    """Build a QAT pair of the zoo, each at most once a run."""
    folder = tmp_path_factory.mktemp("zoo")
    built: dict[str, zoo.Pair] = {}

    def get(name: str) -> zoo.Pair:
        if name not in built:
            built[name] = zoo.build(name, folder)
        return built[name]

    return get
