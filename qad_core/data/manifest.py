"""manifest.json beside prepared tokens: what they were made from, with what, and what came out.

Owns the format and the comparison that decides whether prepared tokens still fit their inputs.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, JsonValue

from qad_core import __version__
from qad_core.config.data_paths import KEY_LENGTH, token_settings
from qad_core.config.schema import DatasetConfig
from qad_core.data.blend import Split
from qad_core.data.render import render_probe
from qad_core.data.sources import Unit, fingerprint_source
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

MANIFEST_NAME = "manifest.json"
PREPARATION = 2
"""Raised when the code would make other tokens from the same inputs, so that older ones are made anew."""
VERSIONED_PACKAGES = ("megatron-core", "transformers", "tokenizers", "tiktoken", "datasets", "numpy")
_OF_THE_WHOLE = ("valid_fraction", "test_fraction")
# Letters, digits, spaces, code, accents, another script and an emoji: tokenizers that differ seldom agree on all.
PROBE_TEXT = "def f(x):\n    return x ** 2  # The 1,234 naïve cafés of Київ; 北京 🙂\n\n\tand   spaces\r\n"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SplitCounts(_Part):
    """What one split holds; all zero and no hashes for a split without documents."""

    documents: int = 0
    """Documents, duplicates dropped."""
    tokens: int = 0
    """Tokens with end-of-document tokens."""
    characters: int = 0
    """Characters of the documents."""
    bin_sha256: str = ""
    """Hash of the token file."""
    idx_sha256: str = ""
    """Hash of its index."""


class SourceCounts(_Part):
    """What became of one source's records."""

    splits: dict[Split, SplitCounts]
    """What came out."""
    read_from: tuple[str, ...]
    """Files and folders, or the hub's dataset with its revision."""
    records: int
    """Records read."""
    left_out: int
    """Records that the sample left out."""
    bad_records: int
    """Records passed over because they cannot be read or rendered."""
    bad_examples: tuple[str, ...]
    """The first of them: where, and why."""
    duplicate_documents: int
    """Exact duplicates that were dropped, also of documents of the sources before."""
    empty_documents: int
    """Documents without text that were dropped."""


class Inputs(_Part):
    """Everything that decides the tokens; equal inputs give equal tokens."""

    preparation: int
    """`PREPARATION` of the code."""
    dataset: dict[str, JsonValue]
    """The dataset's section of the config."""
    sources_sha256: dict[str, str | None]
    """For each source, hash of its files' names, sizes and times, or of the versions that made the text; null for the
    hub's own servers, whose revision `read_from` says."""
    tokenizer_sha256: str
    """Hash of the vocabulary's size, the end-of-document token, a fixed text's tokens and a fixed chat's text."""

    def fit(self, now: Inputs) -> bool:
        """Whether tokens of these inputs are what `now` asks for; the hub is not asked whether it has news."""
        hashes = {name: mine for name, mine in self.sources_sha256.items() if now.sources_sha256.get(name)}
        asked = {name: theirs for name, theirs in now.sources_sha256.items() if theirs}
        others = {"sources_sha256": {}}
        return hashes == asked and self.model_copy(update=others) == now.model_copy(update=others)


class Manifest(_Part):
    """One manifest.json."""

    inputs: Inputs
    """What the tokens were made from."""
    sources: dict[str, SourceCounts]
    """What became of each source."""
    versions: dict[str, str]
    """Packages that the tokens were made with."""
    seconds: float
    """How long it took, from the last start on."""

    def split(self, split: Split) -> SplitCounts:
        """What a split holds over all sources, without hashes."""
        parts = [source.splits[split] for source in self.sources.values()]
        return SplitCounts(
            documents=sum(part.documents for part in parts),
            tokens=sum(part.tokens for part in parts),
            characters=sum(part.characters for part in parts),
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest, or None when there is none or it is of another form (the tokens are then made anew)."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into the folder."""
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def describe_inputs(dataset: DatasetConfig, tokenizer: Tokenizer) -> Inputs:
    """The inputs as they are now."""
    return Inputs(
        preparation=PREPARATION,
        dataset=token_settings(dataset),
        sources_sha256={name: fingerprint_source(source) for name, source in dataset.named_sources.items()},
        tokenizer_sha256=fingerprint_tokenizer(tokenizer),
    )


def work_key(inputs: Inputs) -> str:
    """Short hash of the settings and the tokenizer that decide single units' tokens: the work folder's name.

    How documents are split and weighed is none of them, so that it can change while the work is under way.
    """
    return _hash([_unit_settings(inputs), inputs.tokenizer_sha256])[:KEY_LENGTH]


def unit_key(inputs: Inputs, units: Iterable[Unit]) -> str:
    """Hash of what decides single units' tokens: their work is gone on with while it is the same.

    How documents are split and weighed, and how many records may be bad, can change in between.
    """
    pieces = [repr(unit) for unit in units]
    return _hash([inputs.preparation, _unit_settings(inputs), inputs.sources_sha256, inputs.tokenizer_sha256, pieces])


def fingerprint_tokenizer(tokenizer: Tokenizer) -> str:
    """Hash that tells tokenizers apart by what they do."""
    try:
        chat = render_probe(tokenizer.apply_chat_template)
    except DataError:  # it has no chat template, which not every dataset needs
        chat = None
    return _hash([tokenizer.vocab_size, tokenizer.eod_id, list(tokenizer.encode(PROBE_TEXT)), chat])


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this product, and of the packages that make the tokens."""
    packages = {name: metadata.version(name) for name in VERSIONED_PACKAGES}
    return {"python": platform.python_version(), "qad": __version__, **packages}


def _unit_settings(inputs: Inputs) -> dict[str, JsonValue]:
    settings = {name: value for name, value in inputs.dataset.items() if name not in _OF_THE_WHOLE}
    sources = cast("dict[str, dict[str, JsonValue]]", settings["sources"])
    unweighted = {
        source: {name: value for name, value in of_source.items() if name != "weight"}
        for source, of_source in sources.items()
    }
    return {**settings, "sources": cast("JsonValue", unweighted)}


def _hash(facts: list[object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
