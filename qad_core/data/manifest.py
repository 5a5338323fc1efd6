"""manifest.json beside prepared tokens: what they were made from, with what, and what came out.

Owns the format and the comparison that decides whether prepared tokens still fit their inputs.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from qad_core import __version__
from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.data.blend import Split
from qad_core.data.sources import fingerprint_source
from qad_core.models.tokenizer import Tokenizer

MANIFEST_NAME = "manifest.json"
PREPARATION = 1
"""Raised when the code would make other tokens from the same inputs, so that older ones are made anew."""
VERSIONED_PACKAGES = ("megatron-core", "transformers", "tokenizers", "numpy")
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


class Inputs(_Part):
    """Everything that decides the tokens; equal inputs give equal tokens."""

    preparation: int
    """`PREPARATION` of the code."""
    dataset: dict[str, JsonValue]
    """The dataset's section of the config."""
    source_sha256: str
    """Hash of the source files' names, sizes and times, or of the versions that made the text."""
    tokenizer_sha256: str
    """Hash of the vocabulary's size, the end-of-document token and the tokens of a fixed text."""


class Manifest(_Part):
    """One manifest.json."""

    inputs: Inputs
    """What the tokens were made from."""
    splits: dict[Split, SplitCounts]
    """What came out."""
    duplicate_documents: int
    """Exact duplicates that were dropped."""
    empty_documents: int
    """Documents without text that were dropped."""
    versions: dict[str, str]
    """Packages that the tokens were made with."""
    seconds: float
    """How long it took."""


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest, or None when there is none or it is of another form (the tokens are then made anew)."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into the folder."""
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def describe_inputs(dataset: DatasetConfig, source: SourceConfig, tokenizer: Tokenizer) -> Inputs:
    """The inputs as they are now."""
    return Inputs(
        preparation=PREPARATION,
        dataset=dataset.model_dump(mode="json", exclude={"blend"}),
        source_sha256=fingerprint_source(source),
        tokenizer_sha256=fingerprint_tokenizer(tokenizer),
    )


def fingerprint_tokenizer(tokenizer: Tokenizer) -> str:
    """Hash that tells tokenizers apart by what they do."""
    facts = [tokenizer.vocab_size, tokenizer.eod_id, list(tokenizer.encode(PROBE_TEXT))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this product, and of the packages that make the tokens."""
    packages = {name: metadata.version(name) for name in VERSIONED_PACKAGES}
    return {"python": platform.python_version(), "qad": __version__, **packages}
