"""Text from a log or a status made fit to show: without secrets, and of a sensible length.

Every pattern begins at a word of its own or at the start of one, and what is before it is bounded: a line of
megabytes takes no longer than as many short ones.
"""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), "hf_***"),
    (re.compile(r"(?i)\b(bearer) {1,8}[\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)(?<![\w-])(--[\w-]{0,40}?(?:token|secret|password|api-?key)[= ]{1,8})[^\s\"']+"), r"\1***"),
    (
        re.compile(
            r"((?:TOKEN(?!IZER|S)|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY)\w{0,64}+[\"']?\s{0,8}[=:]\s{0,8})\S+"
        ),
        r"\1***",
    ),
    (
        re.compile(r"(?i)((?<![^\W_])(?:token|secret|password|api_?key)[\"']?\s{0,8}[=:]\s{0,8}[\"']?)[\w.~+/-]{12,}"),
        r"\1***",
    ),
    (re.compile(r"(?<!\w)(\w{1,32}://[^\s/:@]+:)[^\s/@]+@"), r"\1***@"),
)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""A terminal would take them for commands."""


def redact(text: str) -> str:
    """The text with everything that looks like a token, a password or a key replaced by stars."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def fit_to_show(text: str, characters: int) -> str:
    """The text without secrets and control characters, and cut; of a much longer one only the start is looked at."""
    text = text[: 8 * characters].encode("utf-8", errors="replace").decode("utf-8")
    return shorten(redact(_CONTROL.sub(" ", text)), characters)


def shorten(text: str, characters: int) -> str:
    """The text, cut with dots when it is longer."""
    return text if len(text) <= characters else text[: characters - 4].rstrip() + " ..."
