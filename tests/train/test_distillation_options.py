"""The options of `distillation` reach the training loss, and leave the evaluation alone."""

from __future__ import annotations

from pathlib import Path

from qad_core.errors import ExitCode
from qad_core.run.metrics import read_metrics
from tests.train.tiny_run import losses_of, make_run, output_of, train

ONE_STEP = ("train.train_samples=8", "evaluation.interval=0", "quantization.calibration_sequences=8")
OPTIONS = ("distillation.divergence=reverse", "distillation.top_k=1")


def test_training_is_on_one_token_and_all_the_others_and_evaluation_on_every_token(
    tmp_path: Path, data_cache: Path
) -> None:
    run = make_run(tmp_path / "run", data_cache, (*ONE_STEP, *OPTIONS))
    assert train(run) == ExitCode.DONE, output_of(run)
    full_kl = float(read_metrics(run.metrics)[0]["eval/kl"] or 0)
    (loss,) = losses_of(run)
    assert 0 < loss < 0.5 * full_kl  # two outcomes tell less than the whole vocabulary
