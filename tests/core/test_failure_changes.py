"""The failure card's advice: changes of the config that fit it and can be pasted."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.load import load_experiment
from qad_core.run.failure import SlurmEnd, find_failure
from qad_core.run.failure_advice import advise
from qad_core.run.failure_changes import Situation
from qad_core.run.failure_kinds import KINDS
from qad_core.run.status import Status
from tests.core.failed_start import (
    failure_of,
    on_slurm,
    record,
    tiny,
    traceback_of,
    write_start,
)
from tests.core.failure_texts import CUDA_OOM, ENDED, GQA_MISMATCH, OOM_KILL, PORT

MIXTURE = ("model.name=Qwen3-30B-A3B", "cluster.processes_per_node=4", "cluster.nodes=2")
SMALLEST = ("train.micro_batch_size=1", "train.recompute=full")
TP = "parallelism.tensor_model_parallel_size"
EP = "parallelism.expert_model_parallel_size"


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ((), ("train.micro_batch_size=1",)),
        (("train.micro_batch_size=1",), ("train.recompute=full",)),
        ((*MIXTURE, *SMALLEST), (f"{EP}=2",)),
        ((*MIXTURE, *SMALLEST, f"{TP}=4", f"{EP}=2"), (f"{EP}=4", "cluster.nodes=4")),
        (("cluster.processes_per_node=2", *SMALLEST), (f"{TP}=2",)),
        (SMALLEST, ("distillation.chunk_tokens=1024",)),
        ((*SMALLEST, "distillation.chunk_tokens=512"), ("distillation.chunk_tokens=256",)),
        ((*SMALLEST, "distillation.chunk_tokens=128"), ()),
    ],
)  # fmt: skip
def test_memory_is_saved_by_the_next_step_that_the_config_has_not_taken(
    tmp_path: Path, overrides: tuple[str, ...], changes: tuple[str, ...]
) -> None:
    found = failure_of(write_start(tmp_path, traceback_of(CUDA_OOM)), tiny(*overrides))
    assert found.changes == changes
    assert load_experiment("tiny", [*overrides, *found.changes], {})


@pytest.mark.parametrize(
    ("text", "overrides", "changes"),
    [
        (traceback_of(GQA_MISMATCH), ("model=qwen3-8b",), ("model.architecture=null",)),
        (traceback_of(GQA_MISMATCH), (), ()),  # random weights have no config.json
        (traceback_of(PORT), ("cluster.master_port=29500",), ("cluster.master_port=0",)),
        (traceback_of(PORT), (), ()),
        (traceback_of("OSError: [Errno 122] Quota"), ("checkpoint.keep_last=3",), ("checkpoint.keep_last=1",)),
        (ENDED.format(why=" DUE TO PREEMPTION"), ("cluster.slurm.requeue=false",), ("cluster.slurm.requeue=true",)),
        (ENDED.format(why=" DUE TO PREEMPTION"), (), ()),
        (OOM_KILL, (), ("cluster.slurm.memory=0",)),
        (OOM_KILL, ("cluster.slurm.memory=0",), ("train.micro_batch_size=1",)),
        (
            record("failed: loss or gradient was not finite in steps 7 to 9; the state of step 6 is saved"),
            ("train.iterations_to_skip=[2]",),
            ("train.iterations_to_skip=[2, 7, 8, 9]",),
        ),
        (record("failed: found NaN in the loss"), (), ("train.learning_rate=0.00015",)),
        (
            "srun: error: node7: task 3: CUDA error: uncorrectable ECC error encountered\n",
            ("cluster.slurm.extra_options=[--reservation=week12]",),
            ('cluster.slurm.extra_options=["--reservation=week12", "--exclude=node7"]',),
        ),
    ],
)  # fmt: skip
def test_changes_are_proposed_only_where_they_change_something_and_can_be_pasted(
    tmp_path: Path, text: str, overrides: tuple[str, ...], changes: tuple[str, ...]
) -> None:
    found = failure_of(write_start(tmp_path, text), on_slurm(*overrides))
    assert found.changes == changes
    before = on_slurm(*overrides)
    assert not changes or load_experiment("tiny", ["cluster.kind=slurm", *overrides, *changes], {}).config != before


def test_after_a_walltime_saves_get_more_time_unless_the_last_one_was_in_time() -> None:
    config = on_slurm("cluster.slurm.time_limit=1:00:00", "checkpoint.interval=200")
    lost = Status(phase="training", step=150, checkpoint_step=0, updated=1)
    found = find_failure([], config, lost, SlurmEnd("15", "TIMEOUT"))
    assert found is not None
    assert found.changes == ("cluster.slurm.stop_seconds_before_limit=1200", "checkpoint.interval=75")
    assert "`qad_core submit RUN --links N`" in found.advice[0]
    saved = lost.model_copy(update={"phase": "stopped", "checkpoint_step": 150})
    found = find_failure([], config, saved, SlurmEnd("15", "TIMEOUT"))
    assert found is not None and found.changes == ()


def test_every_kind_has_advice_of_its_own() -> None:
    general = advise("no kind", Situation(None, None, ""))
    assert [kind.name for kind in KINDS if advise(kind.name, Situation(None, None, "")) == general] == ["unknown"]
