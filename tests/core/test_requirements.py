"""An install without the trainer says so before anything starts."""

from __future__ import annotations

import pytest

from qad_core.errors import QadError
from qad_core.launch import requirements


def test_a_light_install_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements.require_trainer()  # the tests' own environment has it all
    monkeypatch.setattr(requirements, "find_spec", lambda name: None if name == "megatron" else object())
    with pytest.raises(QadError, match="not installed: megatron") as raised:
        requirements.require_trainer()
    assert "qad[train]" in raised.value.hint
