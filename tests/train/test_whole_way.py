"""A mixture's way through the product by its commands: import, train, resume in another layout, export, verify.

The rehearsal of 32 ranks on this way is `test_rehearse.py`'s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from qad_core.config.schema import ArchitectureConfig
from qad_core.config.yaml_file import read_yaml
from qad_core.errors import ExitCode
from tests.models.small_models import save_transformers_model
from tests.train.tiny_run import REPOSITORY


def qad_core(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, with the repository's configs."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "qad_core.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_a_mixture_goes_from_transformers_through_two_layouts_to_a_verified_nvfp4_folder(tmp_path: Path) -> None:
    shape = read_yaml(REPOSITORY / "configs" / "models" / "tiny-moe.yaml").values["architecture"]
    save_transformers_model(ArchitectureConfig.model_validate(shape), tmp_path / "moe")
    imported = qad_core("import", "moe", "--out", "imported", folder=tmp_path)
    assert imported.returncode == 0, imported.stderr[-2000:]
    settings = (
        "tiny", "model=tiny-moe", f"model.weights={tmp_path / 'imported'}", "cluster.processes_per_node=8",
        "train.micro_batch_size=1", "train.train_samples=32", "train.sequence_length=32", "evaluation.interval=0",
        "evaluation.sequences=8",
    )  # fmt: skip
    began = qad_core("train", *settings, "parallelism=tp4-ep2", "train.exit_iteration=2", folder=tmp_path)
    assert began.returncode == ExitCode.STOPPED_EARLY, began.stderr[-2000:]
    ended = qad_core("train", *settings, "parallelism=tp2-ep4", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    (run,) = (tmp_path / "runs").glob("tiny-moe-*")
    exported = qad_core("export", str(run), "--out", "exported", "--json", folder=tmp_path)
    assert exported.returncode == 0 and json.loads(exported.stdout)["ok"], exported.stdout + exported.stderr[-2000:]
    tensors = load_file(next((tmp_path / "exported").glob("*.safetensors")))
    packed = [name for name, tensor in tensors.items() if tensor.dtype == torch.uint8]
    assert len(packed) == 4 * (4 + 16 * 3)  # each layer's attention, and three linears an expert
