"""Parse the arguments of a command, with hints for surplus and repeated ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from tfldbg.errors import UsageError
from tfldbg.kinds import DATA, KERAS, RECORDING, TFLITE, kind_of

_OPTIONS = {TFLITE: "--against", RECORDING: "--against", KERAS: "--keras", DATA: "--data"}
"""The option for each kind of file."""


class Command(TyperCommand):
    """A command whose errors name the option that a surplus file needs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            UsageError: An option is given twice, or there is a surplus argument.
        """
        words = list(args)
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            self._refuse_repeated(words)
            if ctx.args:
                raise self._surplus(ctx, words)
        return list(ctx.args)

    def _refuse_repeated(self, words: Sequence[str]) -> None:
        given = [w.partition("=")[0] for w in words if w.startswith("-")]
        for option in self.params:
            if getattr(option, "multiple", True) or getattr(option, "is_flag", True):
                continue
            if sum(given.count(name) for name in option.opts) > 1:
                raise UsageError(
                    f"{option.opts[0]} is given more than once, but takes one value",
                    hint=f"give {option.opts[0]} once; tfldbg {self.name} --help shows the options",
                )

    def _surplus(self, ctx: Any, words: Sequence[str]) -> UsageError:
        """Return the error for an argument that no option takes."""
        extra, kind = ctx.args[0], kind_of(ctx.args[0])
        option = _OPTIONS.get(kind or "")
        known = any(option in parameter.opts for parameter in self.params)
        if len(ctx.args) > 1 or option is None or not known:
            return UsageError(
                f"tfldbg {self.name} takes no argument '{extra}' here",
                hint=f"tfldbg {self.name} --help shows what it takes",
            )
        model, meant = ctx.params.get("model"), list(words)
        place = len(meant) - 1 - meant[::-1].index(extra)
        if kind == TFLITE and kind_of(model) == KERAS:
            meant[place : place + 1] = ["--keras", str(model)]
            meant[meant.index(str(model))] = extra
        else:
            meant[place : place + 1] = [option, extra]
        return UsageError(
            f"'{extra}' is given without an option, but tfldbg {self.name} takes one file",
            hint=f"it is {kind}: {shlex.join(['tfldbg', str(self.name), *meant])}",
        )
