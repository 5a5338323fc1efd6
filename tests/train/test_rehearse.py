"""`qad_core check --rehearse` with real ranks: it finds that a layout works, and says why one does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ExitCode
from qad_core.launch.plan import LaunchPlan
from qad_core.launch.ranks import Ending
from qad_core.run.folder import RunFolder
from qad_core.run.status import Status, write_status
from qad_core.train import rehearse
from tests.train.tiny_run import REPOSITORY

STAGES = [
    "imports and tokens", "ranks meet", "build", "calibrate", "evaluate", "step 1", "step 2", "save", "resume",
    "step 3", "evaluate and save again",
]  # fmt: skip
LARGER = "num_layers: 8\nhidden_size: 256\n"
PP2 = ("parallelism=tp2-pp2", "cluster=local-4-ranks")
EP2 = ("model=tiny-moe", "parallelism=tp2-ep4", "parallelism.expert_model_parallel_size=2", "cluster=local-4-ranks")


def start(folder: Path, *arguments: str) -> Any:
    """Start a rehearsal that puts its run folder below `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "qad_core.cli", "check", "--rehearse", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answer_of(process: Any) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of one started with --json."""
    printed = process.communicate(timeout=300)[0]
    return process.returncode, json.loads(printed)


def test_stages_of_layers_each_shared_by_ranks_with_a_larger_teacher(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(LARGER)
    (tmp_path / "temporary").mkdir()
    larger = (f"model.teacher_config={teacher}", "model.teacher_weights=/of/the/teacher")
    process = start(tmp_path / "temporary", "tiny", *PP2, *larger, "--json")
    code, answer = answer_of(process)
    assert code == 0, answer
    data = answer["data"]
    assert (data["ranks"], data["layout"]) == (4, "TP 2 x PP 2 x DP 1")
    assert [stage["name"] for stage in data["stages"]] == STAGES
    assert len(data["losses"]) == 3 and all(0 < loss < 20 for loss in data["losses"])
    assert data["not_rehearsed"]
    assert [problem["what"] for problem in data["missing_here"]] == ["there are no weights at /of/the/teacher"]
    assert not list((tmp_path / "temporary").glob("qad-rehearsal-*"))


def test_a_mixture_teaches_a_dense_student(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text("num_experts: 8\nmoe_router_topk: 2\nmoe_ffn_hidden_size: 64\n")
    mixture = (f"model.teacher_config={teacher}", "model.teacher_weights=random")
    code, answer = answer_of(start(tmp_path, "tiny", *mixture, "--json"))
    assert code == 0, answer
    assert [stage["name"] for stage in answer["data"]["stages"]] == STAGES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_the_two_starts_stops_early(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, starts = RunFolder(tmp_path), list[LaunchPlan]()
    config = load_experiment("tiny", (), {"QAD_CONFIGS": str(REPOSITORY / "configs")})
    folder.config.write_text(dump_resolved(config), encoding="utf-8")

    def stop_and_be_told(plan: LaunchPlan, *_: Any, **__: Any) -> Ending:
        starts.append(plan)
        write_status(folder.status, Status(phase="stopped", reason="exit_iteration 2"))
        signal.raise_signal(number)
        return Ending(ExitCode.STOPPED_EARLY, folder.path)

    monkeypatch.setattr(rehearse, "run_local", stop_and_be_told)
    monkeypatch.setattr(sys, "argv", ["rehearse", str(tmp_path), "2"])
    assert rehearse.main() == ExitCode.STOPPED_EARLY
    assert len(starts) == 1


def test_experts_shared_by_ranks_without_the_weights_and_data_of_the_run(tmp_path: Path) -> None:
    absent = ("model.weights=/not/there", "dataset=local-text", "cluster.device=cuda")
    code, answer = answer_of(start(tmp_path, "tiny", *EP2, *absent, "--json"))
    assert code == 0, answer
    assert answer["data"]["layout"] == "TP 2 x PP 1 x DP 2, EP 2"
    assert [stage["name"] for stage in answer["data"]["stages"]] == STAGES
    assert "there are no weights at /not/there" in {problem["what"] for problem in answer["data"]["missing_here"]}


def test_problems_of_the_config_stop_it_before_any_rank(tmp_path: Path) -> None:
    code, answer = answer_of(start(tmp_path, "tiny", *PP2, "train.global_batch_size=3", "--json"))
    assert code == 2
    assert "global_batch_size 3" in answer["problems"][0]["what"]
    assert not list(tmp_path.glob("qad-rehearsal-*"))


def test_a_rank_that_is_killed_ends_all_and_is_named_and_the_folder_is_kept(tmp_path: Path) -> None:
    process = start(tmp_path, "tiny", *PP2)
    for line in process.stdout:
        if "ranks meet" in line:
            break
    (forker,) = psutil.Process(process.pid).children()
    ranks = forker.children()
    assert len(ranks) == 4
    ranks[2].send_signal(signal.SIGKILL)
    shown = process.communicate(timeout=120)[0]
    assert process.returncode == 4, shown
    assert "rank 2 was killed by SIGKILL" in shown
    (kept,) = tmp_path.glob("qad-rehearsal-*")
    assert f"kept: {kept}" in shown.replace("\n", "")
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)


def test_ctrl_c_ends_all_ranks_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "tiny", *PP2)
    for line in process.stdout:
        if "build" in line:
            break
    ranks = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    shown = process.communicate(timeout=120)[0]
    assert process.returncode == 3, shown
    assert "interrupted" in shown
    assert not list(tmp_path.glob("qad-rehearsal-*"))
    assert not any(rank.is_running() for rank in ranks)


def test_the_rehearsal_of_32_ranks_of_a_slurm_cluster(tmp_path: Path) -> None:
    code, answer = answer_of(start(tmp_path, "tiny", "model=tiny-moe", *WIDE, "--json"))
    assert code == 0, answer
    assert (answer["data"]["ranks"], answer["data"]["layout"]) == (32, "TP 4 x PP 1 x DP 8, EP 8")


WIDE = ("parallelism=tp4-ep8", "cluster.nodes=4", "cluster.processes_per_node=8", "train.micro_batch_size=1")


def test_a_recipe_that_only_the_steps_show_to_be_wrong(tmp_path: Path) -> None:
    code, answer = answer_of(start(tmp_path, "tiny", "train.learning_rate=1e30", "train.clip_grad=0", "--json"))
    assert code == 1
    assert "its losses are" in answer["problems"][0]["what"]
    assert Path(answer["data"]["run_folder"]).is_dir()


def test_a_run_without_a_kd_loss(tmp_path: Path) -> None:
    code, answer = answer_of(start(tmp_path, "tiny", "loss=qat", "quantization.format=none", "--json"))
    assert code == 0, answer
    assert [stage["name"] for stage in answer["data"]["stages"]] == STAGES
