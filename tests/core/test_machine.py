from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from qad_core.cli import main
from qad_core.machine.disks import DiskState, look_at_disk
from qad_core.machine.gpus import look_at_gpus
from qad_core.machine.host import look_at_host
from qad_core.machine.look import MachineState, look_at_machine, warnings_of


def test_the_host_is_what_the_system_says() -> None:
    host = look_at_host(over_seconds=0.05)
    assert len(host.core_shares) == psutil.cpu_count()
    assert 1 <= host.cores <= len(host.core_shares)
    assert all(0 <= share <= 1 for share in host.core_shares)
    assert 0 < host.memory_used < host.memory_total == psutil.virtual_memory().total


def test_a_busy_core_is_seen() -> None:
    look_at_host()
    end = psutil.Process().cpu_times().user + 0.3
    while psutil.Process().cpu_times().user < end:
        sum(range(10_000))
    assert max(look_at_host().core_shares) > 0.2


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_above_it(tmp_path: Path) -> None:
    disk = look_at_disk(tmp_path / "runs" / "of" / "next week")
    found = os.statvfs(tmp_path)
    assert disk.silence == ""
    assert disk.total == found.f_blocks * found.f_frsize
    assert 0 <= disk.used_share <= 1


def test_gpus_are_there_or_it_says_why_not() -> None:
    answer = look_at_gpus()
    assert bool(answer.gpus) != bool(answer.silence)


def test_what_will_stop_a_run_soon_is_a_warning(tmp_path: Path) -> None:
    state = look_at_machine([tmp_path])
    full = DiskState(tmp_path, total=1000, free=10, inodes=1000, inodes_free=5)
    assert warnings_of(MachineState(state.host, state.gpus, (full,))) == [
        f"{tmp_path}: 99% of the disk is full",
        f"{tmp_path}: 100% of the inodes are taken, new files will be refused",
    ]
    tight = replace(state.host, memory_used=97, memory_total=100)
    assert warnings_of(MachineState(tight, state.gpus, ())) == ["97% of the memory is in use"]


def test_the_command_answers_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["system", "--root", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["host"]["memory_total"] > 0
    assert [disk["folder"] for disk in data["disks"]] == [str(tmp_path)]
