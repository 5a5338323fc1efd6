from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.text import Text

from qad_core.machine.gpus import GpuAnswer, GpuState
from qad_core.machine.look import MachineState, look_at_machine
from qad_tui.app import QadApp
from qad_tui.screens.system import SystemScreen
from qad_tui.widgets.machine_view import MachineView, describe_machine
from tests.tui.conftest import Clock, wait_until


def words(app: QadApp) -> str:
    content = app.screen.query_one(MachineView).content
    return content.plain if isinstance(content, Text) else str(content)


async def test_the_machine_and_the_disk_of_the_runs_are_shown(app: QadApp, root: Path, clock: Clock) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        assert isinstance(app.screen, SystemScreen)
        await wait_until(pilot, lambda: "memory" in words(app))
        assert "inodes" in words(app) and str(root) in words(app)


def gpu(**changes: object) -> GpuState:
    state = GpuState(0, "NVIDIA H100", 70 * 2**30, 80 * 2**30, 0.97, 61, 640.0, 700.0, (4242,))
    return replace(state, **changes)  # type: ignore[arg-type]


def described(tmp_path: Path, card: GpuState) -> str:
    state = look_at_machine([tmp_path])
    return describe_machine([MachineState(state.host, GpuAnswer((card,)), state.disks)], width=100).plain


def test_a_gpu_shows_how_busy_and_how_full_it_is(tmp_path: Path) -> None:
    text = described(tmp_path, gpu())
    assert "NVIDIA H100   61 °C   640 of 700 W   1 process" in text
    assert "97 %" in text and "70.0 of 80.0 GiB" in text


def test_what_a_card_does_not_tell_is_a_dash_and_no_zero(tmp_path: Path) -> None:
    text = described(tmp_path, gpu(utilization=None, memory_used=None, temperature=None, power_watts=None))
    assert "busy  –" in text and "°C" not in text


def test_what_follows_for_training_is_said_only_where_it_is_known(tmp_path: Path) -> None:
    state = look_at_machine([tmp_path])
    silent = replace(state, gpus=GpuAnswer(silence="NVML does not answer: Driver/library version mismatch"))
    assert (
        "GPUs   NVML does not answer: Driver/library version mismatch\n" in describe_machine([silent], width=100).plain
    )
