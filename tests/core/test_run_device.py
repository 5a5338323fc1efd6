"""Which of this machine's cards a run is held against."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from qad_core.config import run_device
from qad_core.config.devices import GIB
from qad_core.config.run_device import find_device, visible_gpus
from qad_core.config.schema import ClusterConfig
from qad_core.machine.gpus import GpuState


def cards(*gibibytes: float) -> tuple[GpuState, ...]:
    return tuple(
        GpuState(index, f"card {index}", 0, int(size * GIB), None, None, None, None, ())
        for index, size in enumerate(gibibytes)
    )


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> Sequence[GpuState]:
    found = cards(4, 80)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(run_device, "_gpus_here", lambda: found)
    return found


def test_a_small_card_for_the_display_is_not_what_one_rank_has(two_cards: Sequence[GpuState]) -> None:
    assert find_device(ClusterConfig(processes_per_node=1)).memory == 80 * GIB
    assert find_device(ClusterConfig(processes_per_node=2)).memory == 4 * GIB


def test_the_gpu_of_the_config_counts_before_the_cards_of_this_machine(two_cards: Sequence[GpuState]) -> None:
    assert (find_device(ClusterConfig(gpu="h200")).memory or 0) > 100 * GIB


def test_cards_that_cuda_may_not_see_do_not_count(
    two_cards: Sequence[GpuState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert find_device(ClusterConfig()).memory == 4 * GIB
    assert visible_gpus(two_cards, {"CUDA_VISIBLE_DEVICES": "GPU-0123"}) == tuple(two_cards)
