"""The result of a trace, with its operators and its display."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfldbg.diagnose.result import Result
from tfldbg.errors import UsageError
from tfldbg.session.operator import TracedOperator


@dataclass(frozen=True, slots=True, repr=False)
class Trace(Result):
    """A trace that shows itself as a table in a notebook."""

    recording: Path | None = field(default=None, compare=False)
    """The file with its values, None if they were not recorded."""

    def op(self, number: int, output: int = 0) -> TracedOperator:
        """Return one operator output: its figures and, from the recording, its values.

        Args:
            number: The number of the operator, as in the table.
            output: The number of the output, counted from 0.

        Raises:
            UsageError: There is no such operator or output.
        """
        ops = self.evidence.ops
        found = [i for i, op in enumerate(ops) if op.op == number]
        if not found:
            raise UsageError(
                f"there is no operator {number} in '{self.evidence.run.model_path}'",
                hint=f"its operators are {ops[0].op} to {ops[-1].op}" if ops else "it has none",
            )
        if not 0 <= output < len(found):
            last = len(found) - 1
            held = "its only output is 0" if last == 0 else f"its outputs are 0 to {last}"
            raise UsageError(f"operator {number} has no output {output}", hint=held)
        place = found[output]
        return TracedOperator(
            evidence=ops[place],
            output=output,
            status=self.diagnosis.statuses[place],
            findings=tuple(f for f in self.diagnosis.findings if f.op == number),
            run=self.evidence.run,
            recording=self.recording,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as the documented JSON of format ``tfldbg.trace``."""
        from tfldbg.report.trace_json import trace_to_dict

        return trace_to_dict(self)

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with one row per operator output.

        Columns have the flattened names of the figures of ``ops`` in the JSON: ``local_max_lsb``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from tfldbg.report.dataframe import to_dataframe

        return to_dataframe(self)

    def to_html(self) -> str:
        """Return the trace as a single HTML page that needs no network."""
        from tfldbg.report.html import to_page

        return to_page(self)

    def __repr__(self) -> str:
        return f"<Trace {self.verdict}: {self.diagnosis.sentence}>"

    def _repr_html_(self) -> str:
        from tfldbg.report.notebook import trace_html

        return trace_html(self)
