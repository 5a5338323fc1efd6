"""What the trainer's entry makes of an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from qad_core.errors import ExitCode, ModelError
from qad_core.train.__main__ import explain_error

TOO_MANY_BYTES = 2**56


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(TOO_MANY_BYTES, dtype=torch.uint8), lambda: np.empty(TOO_MANY_BYTES)]
)
def test_memory_that_ran_out_is_the_configs_to_change(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    explained = explain_error(caught.value)
    assert explained is not None and explained.exit_code == ExitCode.USER_ERROR
    assert "memory ran out" in explained.message and "micro_batch_size" in explained.hint


def test_what_the_system_refuses_is_no_bug() -> None:
    full = explain_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    astray = explain_error(OSError(errno.EISDIR, os.strerror(errno.EISDIR), "metrics.jsonl"))
    assert full is not None and full.exit_code == ExitCode.OUTSIDE_FAILED
    assert astray is not None and astray.exit_code == ExitCode.USER_ERROR and "metrics.jsonl" in astray.message


def test_an_error_of_ours_keeps_its_words_and_a_bug_stays_one() -> None:
    ours = ModelError("another model", "name the right one")
    assert explain_error(ours) is ours
    assert explain_error(KeyError("step")) is None
