"""The optimizer is torch's AdamW whatever megatron-core finds beside it."""

from __future__ import annotations

import pytest
from megatron.core.optimizer import distrib_optimizer

from qad_core.train import optim


def test_a_checkpoint_holds_adamw_s_step_also_where_transformer_engine_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distrib_optimizer, "HAVE_APEX_OR_TE", True)  # has megatron-core look for the step elsewhere
    monkeypatch.setattr(distrib_optimizer, "USING_TE_OPTIMIZER", True)
    optim._take_torch_adam()  # pyright: ignore[reportPrivateUsage]
    assert not distrib_optimizer.HAVE_APEX_OR_TE and not distrib_optimizer.USING_TE_OPTIMIZER
