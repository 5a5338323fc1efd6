"""A long calibration or evaluation says how far it is, in the log and by its status."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from qad_core.config.load import load_experiment
from qad_core.run.folder import RunFolder
from qad_core.run.status import read_status
from qad_core.train import report
from qad_core.train.batches import BatchLayout, follow, iterate_batches
from qad_core.train.report import Reporter


def test_each_pass_over_sequences_tells_how_many_are_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PROGRESS_SECONDS", 0.0)
    folder = RunFolder(tmp_path)
    reporter = Reporter(folder, load_experiment("tiny", [], {}).config, rank=0, started=time.time())
    reporter.phase("evaluating")
    begun = read_status(folder.status)
    layout = BatchLayout(micro_batch_size=2, data_parallel_rank=0, data_parallel_size=2)
    sample = {key: torch.zeros(4) for key in ("tokens", "labels", "loss_mask", "position_ids")}
    batches = iterate_batches(
        [sample] * 9, layout, first_sample=0, num_micro_batches=3, device=torch.device("cpu"), end_sample=9
    )
    assert len(list(follow(batches, layout, 9, reporter.progress))) == 3
    (log,) = folder.logs.glob("*_qad_*.log")
    assert [line.partition("INFO ")[2] for line in log.read_text().splitlines() if "sequences" in line] == [
        "evaluating: 0 of 9 sequences",
        "evaluating: 4 of 9 sequences",
        "evaluating: 8 of 9 sequences",
    ]
    now = read_status(folder.status)
    assert begun is not None and now is not None and now.phase == "evaluating" and now.updated > begun.updated
