"""What an evaluation's sums become."""

from __future__ import annotations

import pytest
import torch

from qad_core.errors import DataError
from qad_core.kernels.evaluation import EvaluationSums
from qad_core.train.evaluate import metrics_of


def test_held_out_sequences_without_an_answer_are_an_error_with_a_way_on() -> None:
    with pytest.raises(DataError, match="no token of the held-out sequences counts") as raised:
        metrics_of(EvaluationSums.from_tensor(torch.zeros(5, dtype=torch.float64)))
    assert "evaluation.sequences" in raised.value.hint
