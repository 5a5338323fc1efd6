"""What the form of a new run says of it beside the fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.launch.draft import examine_draft
from qad_tui.form_model import FormModel
from qad_tui.widgets.draft_summary import describe_draft


@pytest.mark.usefixtures("root")
def test_memory_time_and_what_would_fit_are_said() -> None:
    fitting = said_of()
    assert "of 139.8: h200 (this machine)" in fitting and "tokens/s" in fitting
    sizes = [f"train.{name}={2**21}" for name in ("micro_batch_size", "global_batch_size", "train_samples")]
    assert "train.micro_batch_size=" in said_of(*sizes) and "would fit" in said_of(*sizes)


def said_of(*overrides: str) -> str:
    return describe_draft(FormModel("tiny"), examine_draft("tiny", overrides, {}), None).plain


def test_without_a_model_nothing_is_predicted(root: Path) -> None:
    assert not root.exists()
    assert "GiB" not in describe_draft(FormModel(), examine_draft("blank", (), {}), None).plain
