"""The demo from its command to its table, on the tiny model in place of the one of 135 million weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TINY = (
    "model=tiny",
    "dataset=made-text",
    "train.sequence_length=32",
    "train.train_samples=32",
    "train.learning_rate=3e-4",
    "evaluation.interval=0",
    "evaluation.sequences=8",
)


def test_the_demo_trains_and_shows_its_table_its_curve_and_what_to_open_next(tmp_path: Path) -> None:
    environment = {**os.environ, "QAD_CONFIGS": str(REPOSITORY / "configs"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "qad_core.cli", "demo", "--root", str(tmp_path), *TINY]
    first = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    for promised in ("PTQ: NVFP4, no training", "QAD: after 16 steps", "of the KL gap", f"qad-tui {tmp_path}"):
        assert promised in first.stdout
    again = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and "QAD: after 16 steps" in again.stdout
    (exported,) = tmp_path.glob("*/exported")
    assert (exported / "hf_quant_config.json").is_file()
    for said in (first.stdout, again.stdout):
        assert f"vllm serve {exported} --quantization modelopt_fp4" in said
    assert "are the student's bit for bit" in first.stdout
    assert "step 1 of" not in again.stdout, "a demo that is done is shown, not run again"
