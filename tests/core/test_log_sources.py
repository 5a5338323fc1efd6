from __future__ import annotations

import os
from pathlib import Path

import pytest

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job
from qad_core.run.log_sources import LogSource, list_logs, newest_log

FIRST, SECOND = 1_700_000_000.0, 1_700_010_000.0


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.logs.mkdir(parents=True)
    (tmp_path / "logs_slurm").mkdir()
    return folder


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    log = str(tmp_path / "logs_slurm" / "run_%j.log")
    error_log = str(tmp_path / "logs_slurm" / "err_run_%j.log")
    return [
        Job(id="slurm-a", kind="slurm", slurm_job_id="11", link=1, started=FIRST, log=log, error_log=error_log),
        Job(id="local-b", started=SECOND),
        Job(id="slurm-c", kind="slurm", slurm_job_id="12", link=2, log=log, error_log=error_log),
    ]


def write(path: Path, modified: float) -> Path:
    path.write_text("text\n", encoding="utf-8")
    os.utime(path, (modified, modified))
    return path


def names(sources: list[LogSource]) -> list[tuple[int, str, bool]]:
    return [(source.start, source.who, source.size is not None) for source in sources]


def test_every_log_is_listed_with_its_start_and_its_writer(folder: RunFolder, jobs: list[Job]) -> None:
    logs = folder.logs
    write(logs / "student_qad_2023-11-14_22-13-20.log", FIRST + 60)
    write(logs / "student_qad_2023-11-14_22-13-20_rank3.log", FIRST + 50)
    write(logs / "student_2023-11-14_22-13-20.env.log", FIRST)
    write(logs / "student_qad_2023-11-15_01-00-00.log", SECOND + 60)
    write(logs / "output_2023-11-15_01-00-00_node1_rank2.out", SECOND + 10)
    write(logs / "prepare_2023-11-15_01-00-00.out", SECOND + 5)
    write(folder.path.parent / "logs_slurm" / "run_11.log", FIRST + 61)
    sources = list_logs(folder, jobs)
    assert names(sources) == [
        (3, "job's stdout", False),
        (3, "job's stderr", False),
        (2, "rank 0", True),
        (2, "output, node 1 rank 2", True),
        (2, "preparation", True),
        (1, "rank 0", True),
        (1, "rank 3", True),
        (1, "job's stdout", True),
        (1, "job's stderr", False),
    ]
    assert sources[5].when == "start 1, link 1, job 11" and sources[2].when == "start 2"


def test_the_newest_start_with_a_log_is_shown_and_another_writer_of_it_where_the_wanted_has_none(
    folder: RunFolder, jobs: list[Job]
) -> None:
    assert newest_log(list_logs(folder, [])) is None
    waited_for = newest_log(list_logs(folder, jobs))
    assert waited_for is not None and waited_for.path.name == "run_12.log" and waited_for.size is None
    first = write(folder.logs / "student_qad_2023-11-14_22-13-20.log", FIRST + 60)
    third = write(folder.logs / "student_qad_2023-11-14_22-13-20_rank3.log", FIRST + 50)
    sources = list_logs(folder, jobs)
    assert getattr(newest_log(sources), "path", None) == first
    assert getattr(newest_log(sources, "rank", 3), "path", None) == third
    output = write(folder.path.parent / "logs_slurm" / "run_12.log", SECOND + 60)
    assert getattr(newest_log(list_logs(folder, jobs)), "path", None) == output


def test_without_known_starts_the_log_changed_last_is_the_newest(folder: RunFolder) -> None:
    write(folder.logs / "b_qad_2023-11-14_22-13-20.log", FIRST)
    newest = write(folder.logs / "a_qad_2023-11-15_22-13-20.log", SECOND)
    sources = list_logs(folder, [])
    assert getattr(newest_log(sources), "path", None) == newest == sources[0].path
