"""``tfldbg view``."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tfldbg.cli import options as o
from tfldbg.errors import DataError, MissingExtraError, UsageError

_ADAPTER = "builtin_tflite_flatbuffer"
"""The TFLite adapter of Model Explorer that names nodes by the indices of operators."""
_ANY_PORT = 8080
"""Model Explorer's default port; if it is in use, Model Explorer looks for another."""


def view(
    model: o.Model,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN.h5|F.json]",
            help="A trace recorded with --dump, or node data written with --model-explorer.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="The address to listen at. Anyone who can open the page can read all files that "
            "you can.",
        ),
    ] = "localhost",
    port: Annotated[
        int | None,
        typer.Option(metavar="N", help="The port.", show_default="8080 or the next free"),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Open a .tflite file in Google's Model Explorer, coloured by a trace of it.

    Runs until Ctrl-C.
    """
    from tfldbg.graph.load import load_graph, read_file

    load_graph(read_file(Path(model)), model)
    sets = _node_data(data, model) if data is not None else []
    explorer = _model_explorer()
    _check_address(host, port or 0)
    config = explorer.config().add_model_from_path(model, adapterId=_ADAPTER)
    # The last data set added is shown first.
    for data_set in reversed(sets):
        config.add_node_data("trace", json.dumps(data_set))
    explorer.visualize_from_config(
        config, host=host, port=port or _ANY_PORT, no_open_in_browser=not browser
    )
    # A thread that asks the package index for a newer version does not end on Ctrl-C.
    sys.stdout.flush()
    os._exit(0)


def _model_explorer() -> Any:
    try:
        import model_explorer
    except ImportError as error:
        raise MissingExtraError(
            "tfldbg view", "ai-edge-model-explorer", extra="explorer"
        ) from error
    return model_explorer


def _node_data(path: Path, model: str) -> list[dict[str, Any]]:
    """Return the data sets of a recorded trace, or of a node data file and those next to it."""
    from tfldbg import session
    from tfldbg.report.explorer import family

    if path.suffix != ".json":
        return list(session.node_data(session.load_trace(path), model).values())
    target, *others = family(path)
    return [_read(file) for file in (target, *filter(Path.exists, others))]


def _read(path: Path) -> dict[str, Any]:
    from tfldbg.guard import parse_json

    try:
        content = parse_json(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the node data '{path}': {error}",
            hint="write it with tfldbg trace MODEL.tflite --model-explorer F.json",
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"'{path}' is not node data: it does not hold a JSON object",
            hint="write it with tfldbg trace MODEL.tflite --model-explorer F.json",
        )
    return content


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at, with a clearer error than Model Explorer's.

    Raises:
        UsageError: The port is in use, or the host is not an address of this machine.
    """
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen at {host}:{port}: {error}",
            hint="name another with --host and --port, or leave both out",
        ) from error
