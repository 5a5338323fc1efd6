"""A teacher that is deeper and wider than the student, at work in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.errors import ExitCode
from tests.train.tiny_run import losses_of, make_run, output_of, train

LARGER = "num_layers: 6\nhidden_size: 256\nnum_attention_heads: 8\nnum_query_groups: 4\nffn_hidden_size: 512\n"


def test_one_rank_and_two_stages_train_alike_against_a_teacher_of_more_layers_and_width(
    tmp_path: Path, data_cache: Path
) -> None:
    config = tmp_path / "teacher.yaml"
    config.write_text(LARGER)
    teacher = ("model.teacher_weights=random", f"model.teacher_config={config}", "train.train_samples=16",
               "evaluation.interval=0")  # fmt: skip
    one = make_run(tmp_path / "one", data_cache, teacher)
    assert train(one) == ExitCode.DONE, output_of(one)
    assert len(losses_of(one)) == 2
    assert losses_of(one)[0] > 1  # far from any quantized copy of the student, whose KL is some 0.3 here
    two = make_run(tmp_path / "two", data_cache, (*teacher, "parallelism=pp2", "cluster=local-2-ranks"))
    assert train(two, 2) == ExitCode.DONE, output_of(two)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
