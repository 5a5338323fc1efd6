"""Text from a log made fit to show: without secrets, and of a sensible length."""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), "hf_***"),
    (re.compile(r"(?i)\b(bearer) +[\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)(--[\w-]*(?:token|secret|password|api-?key)[= ]+)[^\s\"']+"), r"\1***"),
    (
        re.compile(r"(\b\w*(?:TOKEN(?!IZER|S)|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY)\w*[\"']?\s*[=:]\s*)\S+"),
        r"\1***",
    ),
    (
        re.compile(r"(?i)(\b(?:\w+[_-])?(?:token|secret|password|api_?key)[\"']?\s*[=:]\s*[\"']?)[\w.~+/-]{12,}"),
        r"\1***",
    ),
    (re.compile(r"(\w+://[^\s/:@]+:)[^\s/@]+@"), r"\1***@"),
)


def redact(text: str) -> str:
    """The text with everything that looks like a token, a password or a key replaced by stars."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def shorten(text: str, characters: int) -> str:
    """The text, cut with dots when it is longer."""
    return text if len(text) <= characters else text[: characters - 4].rstrip() + " ..."
