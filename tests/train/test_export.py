"""A run's student becomes a Hugging Face NVFP4 folder from any layout, and no folder that is not the student."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qad_core.config.load import ResolvedConfig, dump_resolved, read_resolved
from qad_core.errors import BugError, ExitCode, ModelError, RunError
from qad_core.models.hf_logits import compare_logits
from qad_core.models.hf_parts import QuantizedLinear, list_parts
from qad_core.models.hf_verify import ExportedTensors
from qad_core.run.export_report import ExportAnswer
from qad_core.run.folder import TRACKER_NAME, RunFolder
from qad_core.train import export, exported_student
from qad_core.train.checkpoint import weights_dtype
from qad_core.train.exported_student import Student, choose_tokens, find_checkpoint, load_student
from qad_core.train.parallel import shut_down_parallel
from tests.rights import locked, reachable_folder
from tests.train.expert_runs import TINY_MOE, Layout, do_jobs, make_job
from tests.train.tiny_run import MODEL, REPOSITORY, make_run, output_of, train

ONE_SHARD = "model-00001-of-00001.safetensors"
LAYER = "model.layers.1.mlp.down_proj"
SHORTEST = ("train.train_samples=16", "train.sequence_length=32", "evaluation.interval=0", "checkpoint.interval=1")
"""Two steps, and a checkpoint of each."""
TINY_DENSE = ("model=tiny", "model.architecture.num_moe_experts=null")
"""Overrides of the tiny mixture of experts."""


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """A finished run of the tiny dense model in bfloat16."""
    run = make_run(tmp_path_factory.mktemp("export") / "dense", data_cache, (*SHORTEST, "train.precision=bf16"))
    assert train(run) == 0, output_of(run)
    return run


@pytest.fixture(scope="module")
def exported(dense: RunFolder) -> Path:
    """Its export, whole and verified."""
    out = dense.path.parent / "exported"
    export.export_run(dense, out)
    return out


@pytest.fixture
def student(dense: RunFolder) -> Iterator[Student]:
    """Its student."""
    config = read_resolved(dense.config).config
    yield load_student(config, find_checkpoint(dense.checkpoints(MODEL), None))
    shut_down_parallel()


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The export, to be tampered with."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def test_a_dense_run_of_any_of_its_checkpoints_is_exported_and_verified(dense: RunFolder, tmp_path: Path) -> None:
    report = export.export_run(dense, tmp_path / "new" / "out", step=1)
    assert report.step == 1 and report.algorithm == "NVFP4" and report.plain_dtype == "bfloat16"
    assert (report.quantized_linears, report.plain_tensors) == (4 * 7, 4 * 4 + 3)
    assert report.quantized_bits_per_weight == pytest.approx(4.5, abs=0.01)
    checks = report.verification
    assert checks.tensors == 28 * 4 + 19 and checks.token_source == "held-out data"
    assert checks.logits_difference <= checks.bound < 1e-4
    names = {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert names == {"config.json", "hf_quant_config.json", "model.safetensors.index.json", ONE_SHARD}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_any_layouts_students_are_exported(tmp_path: Path, data_cache: Path) -> None:
    layouts = {
        "experts": (Layout(tensor=2, expert=2), ("quantization.weight_scales=mse",)),
        "weights only": (Layout(pipeline=2, expert=2), ("quantization.activations=false", "train.precision=bf16")),
        "dense": (Layout(tensor=2, pipeline=2), (*TINY_DENSE, "quantization.weight_scales=four_over_six")),
    }
    make_run(tmp_path / "data", data_cache, TINY_MOE)
    jobs = [
        make_job(tmp_path / name, data_cache, layout, (*overrides, "train.train_samples=8"))
        for name, (layout, overrides) in layouts.items()
    ]
    do_jobs(jobs)
    reports: dict[str, Any] = {}
    for job in jobs:
        folder = RunFolder(job.folder)
        folder.config.write_text(dump_resolved(ResolvedConfig(job.config, {})), encoding="utf-8")
        reports[folder.name] = export.export_run(folder, folder.path / "exported")
    assert [report.algorithm for report in reports.values()] == ["NVFP4", "W4A16_NVFP4", "NVFP4"]
    assert [report.plain_dtype for report in reports.values()] == ["float32", "bfloat16", "float32"]
    assert [report.quantized_linears for report in reports.values()] == [2 * (4 + 8 * 3), 2 * (4 + 8 * 3), 2 * 7]
    out = tmp_path / "experts" / "exported"
    details = json.loads((out / "hf_quant_config.json").read_text())["quantization"]
    gates = [f"model.layers.{layer}.mlp.gate" for layer in range(2)]
    assert details["exclude_modules"] == ["lm_head", "model.embed_tokens", *gates]
    tensors = load_file(out / ONE_SHARD)
    expert, another = "model.layers.1.mlp.experts.7.", "model.layers.1.mlp.experts.6."
    assert tensors[f"{expert}down_proj.weight"].dtype == torch.uint8
    assert tensors[f"{expert}gate_proj.input_scale"] == tensors[f"{expert}up_proj.input_scale"]
    assert tensors[f"{expert}gate_proj.weight_scale_2"] == tensors[f"{expert}up_proj.weight_scale_2"]
    assert tensors[f"{expert}gate_proj.weight_scale_2"] != tensors[f"{another}gate_proj.weight_scale_2"]


def test_a_flipped_byte_is_found(student: Student, copy: Path) -> None:
    tensors = load_file(copy / ONE_SHARD)
    tensors[f"{LAYER}.weight"][3, 5] ^= 0x10
    save_file(tensors, copy / ONE_SHARD)
    with pytest.raises(ModelError, match=rf"{LAYER}.weight, dequantized, differs from the student's in 1 of 32,768"):
        export.verify_export(student, copy)
    (copy / ONE_SHARD).write_bytes((copy / ONE_SHARD).read_bytes()[:-1])
    with pytest.raises(ModelError, match=f"{ONE_SHARD} cannot be read"):
        export.verify_export(student, copy)


def test_a_missing_and_an_extra_tensor_are_named(student: Student, copy: Path) -> None:
    tensors = load_file(copy / ONE_SHARD)
    tensors["model.layers.9.input_layernorm.weight"] = torch.ones(128, dtype=torch.bfloat16)
    del tensors[f"{LAYER}.input_scale"]
    save_file(tensors, copy / ONE_SHARD)
    with pytest.raises(ModelError) as raised:
        export.verify_export(student, copy)
    assert f"{LAYER}.input_scale is missing" in raised.value.message
    assert "model.layers.9.input_layernorm.weight has no place in this model" in raised.value.message


def test_a_layer_that_is_not_packed_is_named(student: Student, copy: Path) -> None:
    tensors = load_file(copy / ONE_SHARD)
    tensors[f"{LAYER}.weight"] = plain_weight(student, LAYER).contiguous()
    save_file(tensors, copy / ONE_SHARD)
    with pytest.raises(ModelError, match=rf"{LAYER}.weight is bfloat16 \[128, 256\], expected uint8 \[128, 128\]"):
        export.verify_export(student, copy)


def test_configs_that_disagree_are_refused(student: Student, copy: Path) -> None:
    path = copy / "hf_quant_config.json"
    quantization = json.loads(path.read_text())
    quantization["quantization"]["exclude_modules"] = ["lm_head", "model.layers.0.*"]
    path.write_text(json.dumps(quantization))
    with pytest.raises(ModelError) as raised:
        export.verify_export(student, copy)
    assert "quantization_config of config.json is not that of hf_quant_config.json" in raised.value.message
    assert "model.layers.0.self_attn.q_proj is quantized" in raised.value.message


def test_one_layer_left_unquantized_is_far_beyond_what_float32_may_differ_by(student: Student, exported: Path) -> None:
    class OneLeftOut(ExportedTensors):
        def read_weight(self, module: str) -> torch.Tensor:
            return plain_weight(student, module).float() if module == LAYER else super().read_weight(module)

    tokens, _ = choose_tokens(student)
    arguments = (student.model, student.architecture, tokens)
    whole = compare_logits(exported, ExportedTensors(exported), *arguments, activations=True)
    assert whole.problems == [] and max(whole.inputs, whole.logits) <= whole.bound
    one_left_out = compare_logits(exported, OneLeftOut(exported), *arguments, activations=True)
    assert min(one_left_out.inputs, one_left_out.logits) > 100 * whole.bound
    assert "the inputs of model.layers.2.self_attn.q_proj" in one_left_out.problems[0]  # what reads it next


def test_a_failed_verification_leaves_no_folder_of_the_name(
    dense: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export.write_export

    def write_with_a_fault(student: Student, folder: Path) -> list[str]:
        names = write(student, folder)
        (folder / "hf_quant_config.json").write_text("{}")
        return names

    monkeypatch.setattr(export, "write_export", write_with_a_fault)
    with pytest.raises(BugError, match="the configs cannot be read") as raised:
        export.export_run(dense, tmp_path / "out")
    assert str(tmp_path / "out.failed") in raised.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["out.failed"]


def test_what_a_killed_export_left_is_replaced_and_a_folder_of_somebodys_is_kept(
    dense: RunFolder, tmp_path: Path
) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "somebodys").touch()
    with pytest.raises(RunError, match="is in the way"):
        export.export_run(dense, tmp_path / "out")
    assert (partial / "somebodys").exists()
    (partial / ".unfinished").touch()
    export.export_run(dense, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not {"somebodys", ".unfinished"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_what_cannot_be_exported_is_refused_in_words(dense: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no whole checkpoint of step 7") as raised:
        export.export_run(dense, tmp_path / "out", step=7)
    assert raised.value.hint == "Steps with one: 1, 2."
    with pytest.raises(RunError, match="is there already"):
        export.export_run(dense, tmp_path)
    config = read_resolved(dense.config).config
    plain = config.model_copy(update={"quantization": config.quantization.model_copy(update={"format": "none"})})
    with pytest.raises(ModelError, match="not quantized"):
        load_student(plain, find_checkpoint(dense.checkpoints(MODEL), None))


def test_a_checkpoint_that_is_removed_while_it_is_loaded_is_not_called_damaged(
    dense: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_resolved(dense.config).config
    checkpoint = Path(shutil.copytree(find_checkpoint(dense.checkpoints(MODEL), None), tmp_path / "iter_0000002"))

    def remove_and_read(checkpoint: Path) -> torch.dtype:
        shutil.rmtree(checkpoint)
        return weights_dtype(checkpoint)

    monkeypatch.setattr(exported_student, "weights_dtype", remove_and_read)
    with pytest.raises(RunError, match="may have removed it") as raised:
        load_student(config, checkpoint)
    shut_down_parallel()
    assert "Export again" in raised.value.hint


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(dense: RunFolder) -> None:
    config, found = read_resolved(dense.config).config, find_checkpoint(dense.checkpoints(MODEL), None)
    with reachable_folder() as place:
        checkpoint = Path(shutil.copytree(found, place / found.name))
        for file in ("__0_0.distcp", "modelopt_state/common.pt"):
            with locked(checkpoint / file), pytest.raises(RunError, match=f"{file} cannot be used: Permission denied"):
                load_student(config, checkpoint)
            shut_down_parallel()


def test_a_full_gpu_or_a_run_on_the_cpu_starts_the_export_anew_without_gpus(
    dense: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class StartedAnew(BaseException):
        pass

    def note(_program: str, argv: list[str], environment: dict[str, str]) -> None:
        assert argv == sys.orig_argv and environment["CUDA_VISIBLE_DEVICES"] == ""
        raise StartedAnew

    monkeypatch.setattr("os.execve", note)
    with pytest.raises(StartedAnew):
        export_failing_with(
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\n..."), dense, tmp_path, monkeypatch
        )
    assert "(CUDA out of memory. Tried 2 GiB): exporting on the CPU" in capsys.readouterr().err
    config = read_resolved(dense.config).config
    on_cpu = config.model_copy(update={"cluster": config.cluster.model_copy(update={"device": "cpu"})})
    folder = RunFolder(tmp_path)
    folder.config.write_text(dump_resolved(ResolvedConfig(on_cpu, {})), encoding="utf-8")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(StartedAnew):
        export_failing_with(AssertionError(), folder, tmp_path, monkeypatch)
    assert "the run's cluster.device is cpu: exporting on the CPU" in capsys.readouterr().err


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_machine_without_the_memory_is_told_what_an_export_needs(
    is_wrapped: bool, dense: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: Exception = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    if is_wrapped:  # as the loading of a checkpoint explains whatever befalls it
        wrapped = ModelError("checkpoint cannot be loaded", "it is damaged")
        wrapped.__cause__ = error
        error = wrapped
    code, answer = export_failing_with(error, dense, tmp_path, monkeypatch)
    assert code == ExitCode.OUTSIDE_FAILED and "memory ran out" in answer.error
    assert "holds the student's weights once" in answer.hint


def test_the_model_that_an_imported_checkpoint_started_from_lies_beside_it(student: Student, tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    iteration = imported / "iter_0000001"
    iteration.mkdir(parents=True)
    for name in (".metadata", "metadata.json"):
        (iteration / name).write_text("{}")
    (imported / "config.json").write_text('{"eos_token_id": [7, 9], "bos_token_id": 3}')
    (imported / "generation_config.json").write_text('{"top_k": 20}')
    (imported / TRACKER_NAME).write_text("1")
    for weights in (imported, iteration):
        model = student.config.model.model_copy(update={"weights": str(weights)})
        config = student.config.model_copy(update={"model": model})
        out = tmp_path / f"out-{weights.name}"
        out.mkdir()
        export.write_export(replace(student, config=config), out)
        assert json.loads((out / "config.json").read_text())["eos_token_id"] == [7, 9]
        assert json.loads((out / "generation_config.json").read_text()) == {"top_k": 20}


def test_a_sign_of_zero_is_a_bit_of_a_plain_tensor(student: Student, copy: Path) -> None:
    name, norm = "model.norm.weight", student.model.decoder.final_layernorm
    assert norm is not None
    with torch.no_grad():
        norm.weight[5] = 0.0
    tensors = load_file(copy / ONE_SHARD)
    tensors[name][5] = -0.0
    save_file(tensors, copy / ONE_SHARD)
    with pytest.raises(ModelError, match=f"{name} differs from the student's in 1 of 128 values"):
        export.verify_export(student, copy)


def test_a_full_disk_is_said_in_words_and_leaves_nothing(dense: RunFolder, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-m", "qad_core.train.export", str(dense.path), "--out", str(tmp_path / "out" / "put")]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    process = subprocess.run([*command, "--answer", str(answer)], cwd=REPOSITORY, check=False, preexec_fn=limit)
    assert process.returncode == ExitCode.OUTSIDE_FAILED
    said = ExportAnswer.model_validate_json(answer.read_bytes())
    assert "could not be written" in said.error and "space" in said.hint
    assert list((tmp_path / "out").iterdir()) == []


def export_failing_with(
    error: BaseException, run: RunFolder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, ExportAnswer]:
    """Exit code and answer of an export in which something is raised."""

    def fail(*_: Any) -> None:
        raise error

    answer = folder / "answer.json"
    monkeypatch.setattr(export, "export_run", fail)
    monkeypatch.setattr(sys, "argv", ["export", str(run.path), "--out", str(folder / "out"), "--answer", str(answer)])
    return export.main(), ExportAnswer.model_validate_json(answer.read_bytes())


def plain_weight(student: Student, module: str) -> torch.Tensor:
    """The student's weight of a Hugging Face name, not quantized."""
    for part in list_parts(student.model, student.architecture):
        if isinstance(part, QuantizedLinear) and module in part.names:
            return part.split(part.module.weight.detach())[part.names.index(module)]
    raise AssertionError(module)
