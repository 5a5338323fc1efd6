"""Secrets that stand where they would be written down: in a value of the config, or in a word about it.

Owns which values are secrets: those of the environment's variables that are named like one, and of those that
the config lists, and what looks like a token wherever it is. No message of this module holds one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from qad_core.config.compose import COMMAND_LINE, Layer, Setting
from qad_core.config.conf_variables import is_secret
from qad_core.config.problems import Problem
from qad_core.config.schema import SlurmConfig

SHORTEST = 8
"""Characters of a value that is taken for a secret: shorter ones (`MAX_TOKENS=4096`) are in many texts."""
_NAMES_A_PLACE = re.compile(r"_(PATH|FILE|SOCK|DIR|HOME|URL)$", re.IGNORECASE)
_PUBLIC = ("USER", "LOGNAME", "HOME", "HOSTNAME")
"""What these say is in every path, whatever other variable says it too."""
_LOOKS_LIKE_ONE = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), "a token of Hugging Face"),
    (re.compile(r"(?<!\w)\w{1,32}://[^\s/:@]+:[^\s/@]+@"), "a password in a URL"),
)
_SHOWN = "***"
_HINT = "Take it out: export the variable in the shell that trains or submits, and the ranks get its environment."


@dataclass(frozen=True)
class Secrets:
    """The values that must be written nowhere, by the names that may be said."""

    values: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str], names: Iterable[str] = ()) -> Secrets:
        """The secrets of an environment; `names` are variables that are none by their names."""
        listed = {*names, *SlurmConfig().secrets}
        named = (name for name in environ if name in listed or (is_secret(name) and not _NAMES_A_PLACE.search(name)))
        found = {name: environ[name].strip() for name in named}
        public = {environ.get(name) for name in _PUBLIC}
        return cls({name: value for name, value in found.items() if len(value) >= SHORTEST and value not in public})

    def find(self, value: object) -> str | None:
        """What secret a value holds, in words (`the value of HF_TOKEN`); None where it holds none."""
        for text in _texts(value):
            for name, secret in self.values.items():
                if secret in text:
                    return f"the value of {name}"
            for pattern, words in _LOOKS_LIKE_ONE:
                if pattern.search(text):
                    return words
        return None

    def hide(self, text: str) -> str:
        """The text with stars in place of secrets."""
        for secret in self.values.values():
            text = text.replace(secret, _SHOWN)
        for pattern, _ in _LOOKS_LIKE_ONE:
            text = pattern.sub(_SHOWN, text)
        return text

    def hide_in(self, problems: Sequence[Problem]) -> list[Problem]:
        """Problems without secrets, which a value or an override that they quote may hold."""
        return [Problem(self.hide(one.what), self.hide(one.where), self.hide(one.hint)) for one in problems]


def refuse_secrets(layer: Layer, environ: Mapping[str, str]) -> frozenset[str]:
    """Take the values that hold a secret out of a layer, with a problem for each; their keys."""
    secrets = Secrets.of(environ, _listed_names(layer))
    refused = {key: words for key, setting in layer.settings.items() if (words := secrets.find(setting.value))}
    for key, words in refused.items():
        setting = layer.settings.pop(key)
        layer.blame(key, refusal(key, words), _place(setting), _HINT)
    layer.problems[:] = secrets.hide_in(layer.problems)
    layer.notes[:] = secrets.hide_in(layer.notes)
    return frozenset(refused)


def refusal(key: str, words: str) -> str:
    """What is wrong, of a key whose value holds a secret."""
    return f"{key} holds {words}, which would be written into the run folder and the batch script"


def _listed_names(layer: Layer) -> list[str]:
    setting = layer.settings.get("cluster.slurm.secrets")
    return list(_texts(setting.value)) if setting is not None else []


def _place(setting: Setting) -> str:
    """Where it was written; an override would be shown with its value."""
    return COMMAND_LINE if setting.origin == COMMAND_LINE else setting.place


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[object, object]", value).items():
            yield from _texts(name)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[object]", value):
            yield from _texts(item)
