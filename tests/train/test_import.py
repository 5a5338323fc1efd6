"""`qad_core import` writes a checkpoint that a run starts from as it would from the model itself."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.distributed.checkpoint.metadata import Metadata

from qad_core.cli import main
from qad_core.config.load import load_experiment
from qad_core.config.megatron_folder import find_iteration, quantized_teacher_problem, read_manifest_architecture
from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, QuantizationConfig, RunConfig
from qad_core.errors import ExitCode, ModelError, RunError
from qad_core.kernels.nvfp4_backend import register_nvfp4_backend
from qad_core.models.arch import make_transformer_config
from qad_core.models.hf_export import is_quantized
from qad_core.models.hf_import import load_hf_weights
from qad_core.models.megatron_names import EXPERT_LINEARS, LINEARS
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.spec import build_gpt_model
from qad_core.models.tensor_sources import open_tensor_source
from qad_core.train.checkpoint import Checkpointer, save_student
from qad_core.train.import_model import import_model
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.saved_quantizers import take_saved_quantizers
from tests.models.gguf_file import write_gguf
from tests.models.small_models import ARCHITECTURES, QWEN3, load_model, save_transformers_model
from tests.ranks import run_on_ranks
from tests.train.tiny_run import REPOSITORY, comparable_metrics, make_run, output_of, train

CALIBRATION = ("train.sequence_length=32", "train.train_samples=64", "quantization.calibration_sequences=8")


def config_of(*overrides: str) -> RunConfig:
    return load_experiment("blank", ["dataset=made-text", "cluster.device=cpu", *overrides], {}).config


def run_import(
    *arguments: object, environment: dict[str, str] | None = None, file_size_limit: int | None = None
) -> tuple[int, Any, str]:
    """(exit code, the one JSON object, what was told on the way) of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "qad_core.cli", "import", *map(str, arguments), "--json"],
        env={**os.environ, **(environment or {})},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        preexec_fn=partial(_limit_file_size, file_size_limit),
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def _limit_file_size(limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize("name", ["qwen3, tied", "qwen3 moe"])
def test_a_student_of_an_imported_folder_is_that_of_the_folder_itself(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    save_transformers_model(architecture, tmp_path / "model")
    config = config_of("model.name=a", f"model.weights={tmp_path / 'model'}")
    report = import_model(config, tmp_path / "out", pad_vocab_to=128)
    assert (report.vocab_rows, report.quantization) == (128, "none")
    assert (tmp_path / "out" / "config.json").is_file()
    with pytest.raises(RunError, match="not empty"):
        import_model(config, tmp_path / "out")
    context = initialize_parallel(ParallelismConfig(), device="cpu", precision="bf16")
    direct, imported = (
        load_model(tmp_path / place, architecture, ParallelismConfig(), context) for place in ("model", "out")
    )
    shut_down_parallel()
    assert all(torch.equal(*pair) for pair in zip(direct.parameters(), imported.parameters(), strict=True))


def test_a_gguf_file_is_imported(tmp_path: Path) -> None:
    tied = QWEN3.model_copy(update={"tie_word_embeddings": True})
    tensors = write_gguf(tmp_path / "model.gguf", tied)
    config = config_of("model=tiny", f"model.weights={tmp_path / 'model.gguf'}")
    model = config.model.model_copy(update={"architecture": tied})
    import_model(config.model_copy(update={"model": model}), tmp_path / "out")
    source = open_tensor_source(tmp_path / "out", tied, seed=0)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in tensors.items())


def test_a_run_from_imported_quantizers_is_the_run_that_calibrates_itself(tmp_path: Path, data_cache: Path) -> None:
    short = ("train.train_samples=16", "evaluation.interval=0")
    direct = make_run(tmp_path / "direct", data_cache, short)
    config = config_of("model=tiny", *CALIBRATION, *short, f"paths.data_cache={data_cache}")
    assert import_model(config, tmp_path / "out", quantize=True).quantization == "calibrated"
    imported = make_run(tmp_path / "imported", data_cache, (*short, f"model.weights={tmp_path / 'out'}"))
    assert [train(run) for run in (direct, imported)] == [ExitCode.DONE] * 2, output_of(imported)
    assert comparable_metrics(imported) == comparable_metrics(direct)
    assert "done before: amax from" in output_of(imported)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArchitectureConfig]:
    """A quantized checkpoint of a tiny mixture of experts, and its shape."""
    folder = tmp_path_factory.mktemp("quantized")
    config = config_of("model=tiny-moe", "model.architecture.num_layers=2", *CALIBRATION, f"paths.data_cache={folder}")
    import_model(config, folder / "out", quantize=True)
    assert config.model.architecture is not None
    return folder / "out", config.model.architecture


def read_amax(folder: Path, architecture: ArchitectureConfig) -> list[Any]:
    """Every amax in a checkpoint of a mixture of experts."""
    source, experts = open_tensor_source(folder, architecture, seed=0), architecture.num_moe_experts or 0
    assert isinstance(source, MegatronSource)
    found: list[torch.Tensor | None] = []
    for layer in range(architecture.num_layers):
        for kind in ("weight", "input"):
            found += [source.read_amax(layer, linear, kind) for linear in LINEARS[:2]]
            found += [source.read_expert_amax(layer, linear, kind, experts) for linear in EXPERT_LINEARS]
    return [None if amax is None else amax.tolist() for amax in found]


def test_a_quantized_checkpoint_keeps_its_amax(quantized: tuple[Path, ArchitectureConfig], tmp_path: Path) -> None:
    folder, architecture = quantized
    report = import_model(config_of("model.name=a", f"model.weights={folder}"), tmp_path / "out")
    assert report.quantization == "kept"
    assert read_amax(tmp_path / "out", architecture) == read_amax(folder, architecture)
    assert None not in read_amax(folder, architecture)


def test_a_kept_student_is_restored_as_the_one_that_was_saved_whole(
    quantized: tuple[Path, ArchitectureConfig], tmp_path: Path
) -> None:
    folder, architecture = quantized
    import_model(config_of("model.name=a", f"model.weights={folder}"), tmp_path / "out")
    context = initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    whole, kept = (_restore(place / "release", architecture, context) for place in (folder, tmp_path / "out"))
    shut_down_parallel()
    assert list(kept) == list(whole) and any("_quantizer._amax" in name for name in kept)
    assert [name for name, value in whole.items() if not torch.equal(kept[name], value)] == []


def _restore(checkpoint: Path, architecture: ArchitectureConfig, context: RankContext) -> dict[str, torch.Tensor]:
    """The tensors of a student that megatron-core and modelopt restore from a checkpoint."""
    shape = make_transformer_config(architecture, ParallelismConfig(), params_dtype=torch.float32)
    student, checkpointer = build_gpt_model(architecture, shape, context), Checkpointer(checkpoint.parent, {}, 1)
    register_nvfp4_backend()
    checkpointer.restore_quantizers(student, checkpoint)
    checkpointer.load_weights(student, checkpoint)
    return {name: value for name, value in student.state_dict().items() if "_extra_state" not in name}


def test_an_import_keeps_the_dtype_and_the_steps_of_a_trained_student(tmp_path: Path) -> None:
    config = config_of("model=tiny", *CALIBRATION, f"paths.data_cache={tmp_path}", "train.precision=bf16")
    import_model(config, tmp_path / "made", quantize=True)
    manifest = tmp_path / "made" / "release" / "checkpoint.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "step": 40}))
    config = config_of("model.name=a", f"model.weights={tmp_path / 'made'}", "train.precision=fp32")
    import_model(config, tmp_path / "kept")
    saved = find_iteration(tmp_path / "kept")
    assert saved is not None and saved.iteration == 40 and quantized_teacher_problem(saved) is not None
    source = open_tensor_source(tmp_path / "kept", read_manifest_architecture(manifest), seed=0)
    assert isinstance(source, MegatronSource)
    assert {source.read(name).dtype for name in source.shapes} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["tiny", "tiny-moe"])
def test_static_block_scales_are_taken_as_saved_under_any_layout(name: str, tmp_path: Path) -> None:
    overrides = ("model.architecture.num_layers=2", "quantization.weight_scales=mse", f"paths.data_cache={tmp_path}")
    config = config_of(f"model={name}", *CALIBRATION, *overrides)
    architecture = config.model.architecture
    assert architecture is not None
    import_model(config, tmp_path / "made", quantize=True)
    import_model(config_of("model.name=a", f"model.weights={tmp_path / 'made'}"), tmp_path / "kept")
    run_on_ranks(_take_and_save, 2, architecture, tmp_path / "made", tmp_path / "ranks" / "iter_0000001")
    expected = _read_block_amax(tmp_path / "made", architecture)
    assert expected and all(amax.any() for amax in expected.values())
    for folder in (tmp_path / "kept", tmp_path / "ranks" / "iter_0000001"):
        found = _read_block_amax(folder, architecture)
        assert [one for one in expected if not torch.equal(found[one], expected[one])] == []


def _read_block_amax(folder: Path, architecture: ArchitectureConfig) -> dict[str, torch.Tensor]:
    """The block amax of every weight of a linear."""
    source = open_tensor_source(folder, architecture, seed=0)
    assert isinstance(source, MegatronSource) and source.has_block_scales
    return {one: source.read_block_amax(one) for one in source.shapes if is_quantized(one)}


def _take_and_save(architecture: ArchitectureConfig, source: Path, target: Path) -> None:
    parallelism = ParallelismConfig(tensor_model_parallel_size=2)
    context = initialize_parallel(parallelism, device="cpu", precision="fp32")
    shape = make_transformer_config(architecture, parallelism, params_dtype=torch.float32)
    student = build_gpt_model(architecture, shape, context)
    saved = open_tensor_source(source, architecture, seed=0)
    assert isinstance(saved, MegatronSource)
    load_hf_weights(student, saved, architecture, context)
    take_saved_quantizers(student, saved, QuantizationConfig(), architecture, context)
    target.mkdir(parents=True, exist_ok=True)
    torch.distributed.barrier()
    save_student(student, target)
    shut_down_parallel()


def test_a_run_that_would_drop_static_block_scales_is_refused(tmp_path: Path, data_cache: Path) -> None:
    scales = "quantization.weight_scales=mse"
    config = config_of("model=tiny", *CALIBRATION, scales, f"paths.data_cache={data_cache}")
    import_model(config, tmp_path / "out", quantize=True)
    run = make_run(tmp_path / "run", data_cache, (f"model.weights={tmp_path / 'out'}",))
    assert train(run) == ExitCode.USER_ERROR
    assert "holds static block scales, and quantization.weight_scales is max" in output_of(run)


def test_what_a_killed_import_left_is_replaced_and_a_folder_of_somebodys_is_kept(tmp_path: Path) -> None:
    config, partial = config_of("model=tiny"), tmp_path / "out.partial"
    (partial / "release").mkdir(parents=True)
    with pytest.raises(RunError, match="is in the way"):
        import_model(config, tmp_path / "out")
    assert (partial / "release").is_dir()
    (partial / ".unfinished").touch()
    import_model(config, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    (tmp_path / "made").mkdir()
    (tmp_path / "link").symlink_to("made")
    import_model(config, tmp_path / "link")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(
        path.name for path in (tmp_path / "out").iterdir()
    )


def test_what_goes_with_an_iteration_that_is_named_itself_is_copied_too(tmp_path: Path) -> None:
    save_transformers_model(QWEN3, tmp_path / "model")
    _save_tokenizer(tmp_path / "model")
    import_model(config_of("model.name=a", f"model.weights={tmp_path / 'model'}"), tmp_path / "first")
    config = config_of("model.name=a", f"model.weights={tmp_path / 'first' / 'release'}")
    assert "tokenizer.json" in import_model(config, tmp_path / "second").tokenizer_files
    assert (tmp_path / "second" / "config.json").is_file()


def test_an_input_amax_that_is_missing_is_named_and_a_weights_is_its_own(
    quantized: tuple[Path, ArchitectureConfig], tmp_path: Path
) -> None:
    folder, architecture = quantized
    config = config_of("model.name=a", f"model.weights={folder}")
    metadata = folder / "release" / ".metadata"
    whole, manifest = metadata.read_bytes(), folder / "release" / "checkpoint.json"
    said = manifest.read_bytes()
    expected = read_amax(folder, architecture)
    try:
        _forget(folder, "decoder.layers.1.mlp.experts.linear_fc2.weight_quantizer._amax")
        _forget(folder, "decoder.layers.0.self_attention.linear_qkv.weight_quantizer._amax")
        import_model(config, tmp_path / "out")
        assert read_amax(tmp_path / "out", architecture) == expected
        _forget(folder, "decoder.layers.1.mlp.experts.linear_fc1.input_quantizer._amax")
        with pytest.raises(ModelError, match=r"no input amax for decoder\.layers\.1\.mlp\.experts\.linear_fc1"):
            import_model(config, tmp_path / "other")
        assert not (tmp_path / "other").exists()
    finally:
        metadata.write_bytes(whole)
        manifest.write_bytes(said)


def _forget(folder: Path, key: str) -> None:
    path = folder / "release" / ".metadata"
    metadata: Metadata = pickle.loads(path.read_bytes())
    del metadata.state_dict_metadata[key]
    path.write_bytes(pickle.dumps(metadata))
    manifest = folder / "release" / "checkpoint.json"
    saved = json.loads(manifest.read_text())
    saved["files"][".metadata"] = path.stat().st_size
    manifest.write_text(json.dumps(saved))


def test_a_full_disk_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    code, answer, _ = run_import("tiny", "--out", tmp_path / "out", file_size_limit=300_000)
    assert code == ExitCode.OUTSIDE_FAILED
    assert f"{tmp_path / 'out.partial'}" in answer["problems"][0]["what"]
    assert "File too large" in answer["problems"][0]["what"]
    assert not (tmp_path / "out").exists()


def test_weights_with_nan_are_refused_by_name_and_leave_nothing(tmp_path: Path) -> None:
    save_transformers_model(QWEN3, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelError, match=r"layers\.1\.self_attn\.k_proj\.weight holds NaN"):
        import_model(config_of("model.name=a", f"model.weights={tmp_path / 'model'}"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_memory_holds_a_layer_of_a_quantized_student_and_not_the_student(tmp_path: Path) -> None:
    shape = {"num_layers": 24, "hidden_size": 1024, "ffn_hidden_size": 3072}
    overrides = [f"model.architecture.{name}={size}" for name, size in shape.items()]
    calibration = (*CALIBRATION[:2], "quantization.calibration_sequences=1", "train.precision=bf16")
    config = config_of("model=tiny", *overrides, *calibration, f"paths.data_cache={tmp_path}")
    import_model(config, tmp_path / "made", quantize=True)
    code, answer, told = run_import(tmp_path / "made", "--out", tmp_path / "kept")
    assert code == ExitCode.DONE, told
    written = answer["data"]["bytes"] / 2**30
    assert written > 0.4
    assert answer["data"]["peak_memory_gib"] < written / 2


def test_memory_holds_a_tensor_and_not_the_model(tmp_path: Path) -> None:
    shape = {"num_layers": 24, "hidden_size": 512, "ffn_hidden_size": 1536}
    overrides = [f"model.architecture.{name}={size}" for name, size in shape.items()]
    code, answer, told = run_import("tiny", "--out", tmp_path / "out", *overrides)
    assert code == ExitCode.DONE, told
    written = answer["data"]["bytes"] / 2**30
    assert written > 0.2
    assert answer["data"]["peak_memory_gib"] < written / 4


class _Hub(BaseHTTPRequestHandler):
    """What the hub answers for one model; a token that begins with `good` opens it."""

    files: dict[str, bytes]
    tokens: list[str | None]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        token = self.headers.get("Authorization")
        if "someone/" in self.path:
            self.tokens.append(token)
        if "someone/model" not in self.path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif token != "Bearer good":
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif "/resolve/" in self.path:
            body = self.files[self.path.rpartition("/")[2]]
            self._send(200, body, {"ETag": f'"{hash(body) & 0xFFFFFFFF:x}"', "X-Repo-Commit": "a" * 40})
        elif "/tree/" in self.path:
            tree = [{"type": "file", "path": name, "size": len(self.files[name]), "oid": "b"} for name in self.files]
            self._send(200, json.dumps(tree).encode(), {})
        else:
            siblings = [{"rfilename": name} for name in self.files]
            about = {"_id": "1", "id": "someone/model", "sha": "a" * 40, "siblings": siblings}
            self._send(200, json.dumps(about).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def serve_hub(folder: Path) -> Iterator[tuple[str, list[str | None]]]:
    """(URL of a hub with this folder as the model someone/model, the tokens that were shown to it)."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    tokens: list[str | None] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"files": files, "tokens": tokens}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", tokens
    finally:
        server.shutdown()
        server.server_close()


def test_a_model_on_the_hub_is_fetched_with_the_environments_token_and_a_refusal_says_why(tmp_path: Path) -> None:
    save_transformers_model(QWEN3, tmp_path / "model")
    _save_tokenizer(tmp_path / "model")
    with serve_hub(tmp_path / "model") as (url, tokens):
        hub = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "good"}
        code, answer, told = run_import("someone/model", "--out", tmp_path / "out", environment=hub)
        assert code == ExitCode.DONE, told
        assert "tokenizer.json" in answer["data"]["tokenizer_files"]
        assert set(tokens) == {"Bearer good"} and "good" not in told
        refused = {**hub, "HF_TOKEN": "", "HF_HOME": str(tmp_path / "other")}
        code, answer, _ = run_import("someone/model", "--out", tmp_path / "gated", environment=refused)
        assert code == ExitCode.USER_ERROR and "is not open to you" in answer["problems"][0]["what"]
    unreached = {**hub, "HF_HOME": str(tmp_path / "other")}
    code, answer, _ = run_import("someone/model", "--out", tmp_path / "cut", environment=unreached)
    assert code == ExitCode.OUTSIDE_FAILED and "cannot be fetched" in answer["problems"][0]["what"]
    assert not (tmp_path / "cut").exists()


def _save_tokenizer(folder: Path) -> None:
    Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere/at/all",), "there is no model nowhere/at/all"),
        (("tiny", "--quantize", "fp8"), "--quantize fp8 is no format"),
        (("tiny", "--quantize", "nvfp4"), "no dataset is named"),
        (("tiny", "model.architecture.num_query_groups=3"), "4 query heads cannot be shared by 3"),
        (
            ("tiny", "--quantize", "nvfp4", "--dataset", "made-text", "quantization.calibration_sequences=99999999"),
            "calibration takes 99999999 sequences",
        ),
    ],
)
def test_what_cannot_be_imported_is_refused_at_once(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", *arguments, "--out", str(tmp_path / "out"), "--json"]) == ExitCode.USER_ERROR
    assert said in json.loads(capsys.readouterr().out)["problems"][0]["what"]
