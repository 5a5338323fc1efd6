"""jobs.jsonl: events of several machines about one start add up, in whatever order they arrive."""

from __future__ import annotations

from pathlib import Path

from qad_core.run.jobs import Job, append_job, read_jobs


def test_events_about_one_start_add_up(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    append_job(path, Job(id="slurm-a", kind="slurm", submitted=1.0, link=2, links=3))
    append_job(path, Job(id="slurm-a", kind="slurm", started=5.0, host="node1", slurm_job_id="12"))
    append_job(path, Job(id="slurm-a", kind="slurm", slurm_job_id="12"))  # sbatch's answer, later than the start
    append_job(path, Job(id="slurm-a", kind="slurm", ended=9.0, exit_code=3))
    (job,) = read_jobs(path)
    assert (job.submitted, job.started, job.ended, job.exit_code) == (1.0, 5.0, 9.0, 3)
    assert (job.link, job.host, job.slurm_job_id) == (2, "node1", "12")


def test_a_second_start_of_a_job_takes_back_its_first_end(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    append_job(path, Job(id="slurm-a", kind="slurm", started=5.0, ended=9.0, exit_code=3))
    append_job(path, Job(id="slurm-a", kind="slurm", started=20.0, ended=None, exit_code=None, restarts=1))
    (job,) = read_jobs(path)
    assert (job.started, job.ended, job.exit_code, job.restarts) == (20.0, None, None, 1)


def test_a_submission_is_unresolved_until_an_answer_or_the_job_is_seen() -> None:
    called = Job(id="slurm-a", kind="slurm", submitted=1.0)
    assert called.unresolved
    for seen in ({"slurm_job_id": "12"}, {"refused": "no such partition"}, {"started": 2.0}):
        assert not called.model_copy(update=seen).unresolved


def test_lines_that_are_no_jobs_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(
        '{"id": "slurm-a", "kind": "slurm"}\n{"kind": "slurm"}\nnot json\n[1]\n{"id": "b", "started": "x"}\n'
    )
    assert [job.id for job in read_jobs(path)] == ["slurm-a"]


def test_a_job_id_that_squeue_would_not_read_is_passed_over_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    bad = ["0", "-5", "abc", "12,13", "12; rm", "2147483648", "9" * 23, "\u0663", "12\\n"]
    lines = [f'{{"id": "slurm-{n}", "kind": "slurm", "slurm_job_id": "{text}"}}' for n, text in enumerate(bad)]
    good = ["12", "12_3", "12+1", "2147483647"]
    lines += [f'{{"id": "slurm-{text}", "kind": "slurm", "slurm_job_id": "{text}"}}' for text in good]
    submitted = '{"id": "slurm-0", "kind": "slurm", "submitted": 1.0}'
    path.write_text("\n".join([submitted, *lines]) + "\n")
    first, *others = read_jobs(path)
    assert first.unresolved  # the next submission looks for it by its token
    assert [job.slurm_job_id for job in others] == good


def test_a_line_that_a_full_disk_cut_off_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"id": "slurm-a", "kind": "slu')
    append_job(path, Job(id="slurm-b", kind="slurm"))
    assert [job.id for job in read_jobs(path)] == ["slurm-b"]


def test_logs_carry_the_job_id() -> None:
    job = Job(id="slurm-a", kind="slurm", slurm_job_id="12", log="/logs/run_%j.log", error_log="/logs/err_run_%j.log")
    assert job.log_files() == [Path("/logs/run_12.log"), Path("/logs/err_run_12.log")]
