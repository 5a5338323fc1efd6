"""Fixtures of the trainer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.tiny_run import REPOSITORY


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared tokens of the tiny experiment, shared by all tests of a session."""
    return tmp_path_factory.mktemp("data_cache")


@pytest.fixture(autouse=True)
def shipped_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments are found in the checkout, whatever the developer's machine has set."""
    monkeypatch.setenv("QAD_CONFIGS", str(REPOSITORY / "configs"))
