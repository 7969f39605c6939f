"""Coverage-guided fuzzing of what reads a .tflite file; needs the package atheris.

    python3 -m pip install atheris
    python3 -m benchmarks.fuzz.guided CORPUS_FOLDER -max_total_time=600 -max_len=8192

The folder holds small .tflite files; libFuzzer adds those that reach new code, and leaves what
fails as ``crash-...`` in the working directory.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run until something fails or the time is up."""
    import atheris

    with atheris.instrument_imports(include=["tfldbg.graph", "tfldbg.diagnose.rules"]):
        from tfldbg.diagnose.rules import inspect_findings
        from tfldbg.errors import TfldbgError
        from tfldbg.graph.limits import check_operands, check_runnable
        from tfldbg.graph.load import load_graph
        from tfldbg.rewrite.expose import expose

    def one(data: bytes) -> None:
        try:
            graph = load_graph(data)
        except TfldbgError:
            return
        for subgraph in graph.subgraphs:
            inspect_findings(graph, subgraph)
            try:
                check_operands(subgraph, "m")
                check_runnable(graph, subgraph, "m")
                expose(graph, subgraph)
            except TfldbgError:
                continue

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
