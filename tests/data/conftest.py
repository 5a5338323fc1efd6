"""A tokenizer and a small source for the data tests."""

from __future__ import annotations

import pytest

from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.models.tokenizer import BytesTokenizer, Tokenizer


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
