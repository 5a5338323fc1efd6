"""What the form of a new run says of it beside the fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.launch.draft import examine_draft
from qad_tui.form_model import FormModel
from qad_tui.widgets.draft_summary import describe_draft, headline


@pytest.mark.usefixtures("root")
def test_memory_time_and_what_would_fit_are_said() -> None:
    fitting = said_of()
    assert "of 139.8: h200 (this machine)" in fitting and "tokens/s" in fitting
    sizes = [f"train.{name}={2**21}" for name in ("micro_batch_size", "global_batch_size", "train_samples")]
    assert "train.micro_batch_size=" in said_of(*sizes) and "would fit" in said_of(*sizes)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("text", ["many", "", "1e", "-3"])
def test_the_forecast_waits_for_a_field_that_holds_no_number(text: str) -> None:
    said = said_of(f"train.micro_batch_size={text}", f"train.train_samples={2**21}")
    assert "forecast  waits for train.micro_batch_size" in said
    assert not any(word in said for word in ("memory", "time", "batch  ", "steps", "GPUs"))


@pytest.mark.usefixtures("root")
def test_the_headline_counts_nothing_while_a_field_holds_no_number() -> None:
    draft = examine_draft("tiny", ["cluster.nodes=two"], {})
    said = headline(FormModel("tiny", {"cluster.nodes": "two"}), draft, checking=False).plain
    assert said.endswith("1 problem")


def said_of(*overrides: str) -> str:
    return describe_draft(FormModel("tiny"), examine_draft("tiny", overrides, {}), None).plain


def test_without_a_model_nothing_is_predicted(root: Path) -> None:
    assert not root.exists()
    assert "GiB" not in describe_draft(FormModel(), examine_draft("blank", (), {}), None).plain
