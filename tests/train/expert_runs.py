"""Several layouts of one tiny mixture of experts, trained one after the other by the same processes.

A process pays its imports once, which is most of what a tiny run costs; each layout has a process group of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from qad_core.config.load import load_experiment
from qad_core.config.schema import RunConfig
from qad_core.run.folder import RunFolder
from qad_core.train.checkpoint import Checkpointer
from qad_core.train.loop import train
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.report import Reporter, log
from qad_core.train.session import Session, build_session
from qad_core.train.stop import StopWatch
from tests.ranks import run_on_ranks
from tests.train.tiny_run import SHORT

TINY_MOE = (
    "model=tiny-moe",
    "model.architecture.num_layers=2",
    "model.architecture.num_moe_experts=8",
    "train.train_samples=40",
    "train.precision=fp32",
    "train.learning_rate=1e-5",
    "train.micro_batch_size=2",
    "evaluation.interval=0",
    "checkpoint.interval=0",
)
"""Overrides of the tiny experiment: five steps."""


@dataclass(frozen=True)
class Layout:
    """How experts and the rest lie over ranks."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1

    @property
    def world_size(self) -> int:
        """The fewest ranks that it takes."""
        return self.tensor * self.pipeline * self.expert

    @property
    def overrides(self) -> tuple[str, ...]:
        """As settings of an experiment."""
        return (
            f"parallelism.tensor_model_parallel_size={self.tensor}",
            f"parallelism.pipeline_model_parallel_size={self.pipeline}",
            f"parallelism.expert_model_parallel_size={self.expert}",
            f"parallelism.sequence_parallel={str(self.tensor > 1).lower()}",
            f"cluster.processes_per_node={self.world_size}",
        )


@dataclass(frozen=True)
class Job:
    """One layout's work; ranks beyond its world size pass it by."""

    folder: Path
    config: RunConfig
    meeting: Path
    """File over which the ranks meet: a port that was free when the jobs were made need not be so at their turn."""
    save_into: Path | None = None
    """Load the run's newest checkpoint and save it here, instead of training."""

    @property
    def world_size(self) -> int:
        """Ranks that it takes."""
        return self.config.cluster.world_size


def make_job(
    folder: Path, data_cache: Path, layout: Layout, overrides: Sequence[str] = (), save_into: Path | None = None
) -> Job:
    """Work in a run folder, which goes on from its checkpoint where it has one by then; the tokens must be there."""
    settings = [*SHORT, *TINY_MOE, *layout.overrides, *overrides, f"paths.data_cache={data_cache}"]
    return Job(
        folder, load_experiment("tiny", settings, {}).config, folder.parent / f"meeting-{uuid4().hex}", save_into
    )


def do_jobs(jobs: Sequence[Job]) -> None:
    """Do the jobs in order, on as many processes as the largest needs."""
    run_on_ranks(_do_jobs, max(job.world_size for job in jobs), jobs)


def _do_jobs(jobs: Sequence[Job]) -> None:
    rank = int(os.environ["RANK"])
    for job in jobs:
        if rank < job.world_size:
            os.environ.update(WORLD_SIZE=str(job.world_size))
            store = FileStore(str(job.meeting), job.world_size)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=job.world_size)
            _with_session(job, _train if job.save_into is None else _save)


def _with_session(job: Job, act: Callable[[Session, RankContext, Job], Any]) -> None:
    folder, config, started = RunFolder(job.folder), job.config, time.time()
    context = initialize_parallel(
        config.parallelism, device="cpu", precision=config.train.precision, seed=config.train.seed, timeout_minutes=10
    )
    log.handlers.clear()  # those of the session before
    reporter = Reporter(folder, config, rank=context.rank, started=started)
    act(build_session(config, context, folder, reporter), context, job)
    shut_down_parallel()


def _train(session: Session, context: RankContext, job: Job) -> None:
    train(session, RunFolder(job.folder), StopWatch(session.config.train, context, started=time.time()))


def _save(session: Session, _context: RankContext, job: Job) -> None:
    assert job.save_into is not None
    target = RunFolder(job.save_into).checkpoints(session.config.model.name)
    checkpointer = Checkpointer(target, session.checkpointer.architecture, keep_last=1)
    checkpointer.save(session.model, session.optimizer, session.scheduler, session.progress)
