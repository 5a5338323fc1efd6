"""The last gate before the terminal: no character of a name, a log or an error is taken for a command.

Owns which characters never reach it: control characters, and those that turn the direction of a line round. They
have no width, so that leaving them out moves nothing.
"""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class WithoutCommands(LineFilter):
    """Leaves such characters out of a line."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The line without them; the same list where there are none."""
        if not any(_COMMANDS.search(segment.text) for segment in segments):
            return segments
        return [Segment(_COMMANDS.sub("", text), style, control) for text, style, control in segments]
