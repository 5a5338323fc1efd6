"""One look at SLURM for the jobs of many runs, on a real cluster."""

from __future__ import annotations

import os
from pathlib import Path

from qad_core.run.jobs import Job
from qad_core.slurm.answers import MOST_IDS, ask_slurm
from qad_core.slurm.client import SlurmClient
from tests.slurm.cluster import SlurmCluster


def record(job_id: str) -> Job:
    return Job(id=f"slurm-{job_id}", kind="slurm", slurm_job_id=job_id)


def test_jobs_that_slurm_does_not_know_do_not_hide_those_that_it_does(
    slurm_without_accounting: SlurmCluster, tmp_path: Path
) -> None:
    client = SlurmClient(environ={**os.environ, **slurm_without_accounting.environ})
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --output=/dev/null\nsleep 60\n")
    mine = [client.submit(script, comment=f"qad:{number}", chdir=tmp_path) for number in range(2)]
    long_gone = [record(str(number)) for number in range(900_000, 900_000 + 2 * MOST_IDS)]
    jobs = [record(mine[0]), *long_gone, record("2147483647"), record("12_99"), record("13+9"), record(mine[1])]
    answers = ask_slurm(client, jobs, endings=False)
    assert answers.silences == () and answers.queue is not None
    assert set(answers.queue) == set(mine)
    alone = ask_slurm(client, [record("900000")], endings=False)
    assert (alone.queue, alone.silences) == ({}, ())
