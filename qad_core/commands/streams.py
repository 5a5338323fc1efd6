"""stdout, stderr and the arguments of a command as this process got them: any text can be shown, any end survived."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from qad_core.errors import QadError


def let_any_text_be_shown() -> None:
    """A character that the terminal's encoding lacks, or half of one in a file's name, is shown by its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def refuse_other_text(arguments: Sequence[str]) -> None:
    """Raises QadError for an argument that is not UTF-8, which no config and no name of ours can hold."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise QadError(f"the argument {argument!a} is not UTF-8 text", "Write it in UTF-8.")


def give_up_output() -> None:
    """Let what is still to be written to stdout go nowhere, so that the interpreter's end does not fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
