"""Checkpoints of Megatron's `torch_dist` format are read as the weights that were saved, from any layout and spec."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import pytest
import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from modelopt.torch.opt.plugins import save_sharded_modelopt_state
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig
from qad_core.errors import ConfigError, ModelError, OutsideError, RunError
from qad_core.models.arch import make_transformer_config
from qad_core.models.hf_import import check_tensors, load_hf_weights
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.megatron_writer import CONTENT, Piece, open_writer, write_weights
from qad_core.models.spec import CausalSelfAttention, RMSNorm, build_gpt_model
from qad_core.models.tensor_sources import RandomSource, TensorSource, open_tensor_source
from qad_core.run.folder import TRACKER_NAME
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from tests.models.small_models import LLAMA, QWEN3, QWEN3_MOE
from tests.ranks import run_on_ranks
from tests.rights import locked, reachable_folder

TIED = QWEN3.model_copy(update={"tie_word_embeddings": True})
PADDED_ROWS = 128


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    shut_down_parallel()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A whole checkpoint of QWEN3."""
    return write(tmp_path / "model", QWEN3)


def write(folder: Path, architecture: ArchitectureConfig, rows: int = PADDED_ROWS) -> Path:
    (folder / "release").mkdir(parents=True)
    write_weights(RandomSource(architecture, seed=5), architecture, folder / "release", rows)
    (folder / TRACKER_NAME).write_text("release\n")
    return folder


def read(folder: Path, architecture: ArchitectureConfig) -> MegatronSource:
    source = open_tensor_source(folder, architecture, seed=0)
    assert isinstance(source, MegatronSource)
    return source


def assert_same(source: TensorSource, architecture: ArchitectureConfig, seed: int = 5) -> None:
    check_tensors(source, architecture)
    expected = RandomSource(architecture, seed)
    differing = [name for name in expected.shapes if not torch.equal(source.read(name), expected.read(name))]
    assert differing == []


@pytest.mark.parametrize("architecture", [QWEN3, TIED, LLAMA, QWEN3_MOE], ids=["dense", "tied", "llama", "moe"])
def test_what_is_written_is_read_back_and_loaded_by_megatron(
    architecture: ArchitectureConfig, tmp_path: Path, context: RankContext
) -> None:
    folder = write(tmp_path / "model", architecture)
    assert_same(read(folder, architecture), architecture)
    ours, theirs = (_build(architecture, context) for _ in "ot")
    load_hf_weights(ours, RandomSource(architecture, seed=5), architecture, context)
    template = {"model": theirs.sharded_state_dict(metadata=dict(CONTENT))}
    loaded: Any = dist_checkpointing.load(template, str(folder / "release"))
    theirs.load_state_dict(loaded["model"])
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


LAYOUTS = {
    "tensor_model_parallel_size": (QWEN3, QWEN3_MOE),
    "pipeline_model_parallel_size": (QWEN3_MOE,),
    "expert_model_parallel_size": (QWEN3_MOE,),
}
"""Size that is 2 -> models that are saved so."""


def test_a_checkpoint_of_several_ranks_with_a_padded_vocabulary_is_one_model(tmp_path: Path) -> None:
    for architecture in (QWEN3, QWEN3_MOE):
        write(tmp_path / architecture.family, architecture)
    run_on_ranks(_save_on_ranks, 2, tmp_path)
    for layout, architectures in LAYOUTS.items():
        for architecture in architectures:
            assert_same(read(_saved(tmp_path, layout, architecture).parent, architecture), architecture)


def _saved(folder: Path, layout: str, architecture: ArchitectureConfig) -> Path:
    return folder / f"{architecture.family}-{layout}" / "iter_0000007"


def _save_on_ranks(folder: Path) -> None:
    """Save as Megatron-LM does by default: layers stacked along a leading axis."""
    for layout, architectures in LAYOUTS.items():
        parallelism = ParallelismConfig.model_validate({layout: 2})
        parallel_state.destroy_model_parallel()  # of the layout before; the ranks stay joined
        context = initialize_parallel(parallelism, device="cpu", precision="fp32")
        for architecture in architectures:
            padded = architecture.model_copy(update={"vocab_size": PADDED_ROWS})
            config = make_transformer_config(padded, parallelism, params_dtype=torch.float32)
            model = build_gpt_model(padded, config, context)
            source = open_tensor_source(folder / architecture.family, padded, seed=0)
            load_hf_weights(model, source, padded, context)
            target = _saved(folder, layout, architecture)
            target.mkdir(parents=True, exist_ok=True)
            torch.distributed.barrier()
            dist_checkpointing.save(model.sharded_state_dict(), str(target))
            (target.parent / TRACKER_NAME).write_text("7")
    shut_down_parallel()


@pytest.mark.parametrize("metadata", [{}, CONTENT], ids=["stacked", "one by one"])
def test_megatrons_own_experts_are_read(metadata: dict[str, bool], tmp_path: Path, context: RankContext) -> None:
    model = _build_with_megatrons_experts()
    dist_checkpointing.save(model.sharded_state_dict(metadata=dict(metadata)), str(_make(tmp_path / "iter_0000001")))
    source = read(tmp_path / "iter_0000001", QWEN3_MOE)
    check_tensors(source, QWEN3_MOE)
    for layer, expert in ((0, 3), (1, 7)):
        theirs = model.decoder.layers[layer].mlp.experts.local_experts[expert]
        prefix = f"model.layers.{layer}.mlp.experts.{expert}."
        gate_and_up = [source.read(f"{prefix}{name}_proj.weight") for name in ("gate", "up")]
        assert torch.equal(torch.cat(gate_and_up), theirs.linear_fc1.weight)
        assert torch.equal(source.read(f"{prefix}down_proj.weight"), theirs.linear_fc2.weight)


def test_amax_that_modelopt_saved_of_megatrons_own_model_is_read(tmp_path: Path, context: RankContext) -> None:
    model, tokens = _build_with_megatrons_experts(), torch.arange(64).reshape(2, 32)
    mtq.quantize(model, mtq.NVFP4_DEFAULT_CFG, lambda model: model(tokens, torch.arange(32).expand(2, 32), None))
    folder = _make(tmp_path / "iter_0000001")
    dist_checkpointing.save({"model": model.sharded_state_dict(), "iteration": 1}, str(folder))
    save_sharded_modelopt_state([model], folder)
    source, layer = read(folder, QWEN3_MOE), model.decoder.layers[1]
    check_tensors(source, QWEN3_MOE)
    assert source.is_quantized
    for kind in ("weight", "input"):
        amax = source.read_amax(1, "self_attention.linear_qkv", kind)
        assert amax == getattr(layer.self_attention.linear_qkv, f"{kind}_quantizer").amax
        experts = source.read_expert_amax(1, "mlp.experts.linear_fc2", kind, 8)
        assert experts is not None
        theirs = [getattr(expert.linear_fc2, f"{kind}_quantizer").amax for expert in layer.mlp.experts.local_experts]
        assert experts.tolist() == [float(amax) for amax in theirs]


def test_names_of_transformer_engines_spec_and_a_prefix_are_known(written: Path) -> None:
    def rename(metadata: Metadata) -> None:
        _rename(
            metadata, lambda key: f"model.{key}".replace("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight")
        )

    _change_metadata(written, rename)
    assert_same(read(written, QWEN3), QWEN3)


def test_optimizer_and_quantizer_state_are_passed_over_and_any_other_tensor_is_named(written: Path) -> None:
    extra = {
        "chained_0.optimizer.state.exp_avg.decoder.final_layernorm.weight": "decoder.final_layernorm.weight",
        "decoder.layers.0.mlp.linear_fc2.weight_quantizer._amax": "decoder.final_layernorm.weight",
    }
    _change_metadata(written, lambda metadata: _copy_entries(metadata, extra))
    check_tensors(read(written, QWEN3), QWEN3)
    extra = {"decoder.layers.1.self_attention.linear_qkv.bias": "decoder.final_layernorm.weight"}
    _change_metadata(written, lambda metadata: _copy_entries(metadata, extra))
    with pytest.raises(ModelError, match=r"linear_qkv\.bias \[64\] has no place"):
        check_tensors(read(written, QWEN3), QWEN3)


def test_fewer_rows_than_the_vocabulary_and_another_head_count_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", QWEN3, rows=96)
    larger = QWEN3.model_copy(update={"vocab_size": 100})
    with pytest.raises(ModelError, match=r"embed_tokens\.weight is \[96, 64\], expected \[100, 64\]"):
        check_tensors(read(folder, larger), larger)
    other = QWEN3.model_copy(update={"num_query_groups": 4})
    with pytest.raises(ModelError, match=r"q_proj\.weight \[128, 64\] is missing.*"):
        check_tensors(read(folder, other), other)


def test_packed_weights_are_refused(written: Path) -> None:
    def pack(metadata: Metadata) -> None:
        entry: Any = metadata.state_dict_metadata["decoder.layers.0.mlp.linear_fc2.weight"]
        entry.properties.dtype = torch.uint8

    _change_metadata(written, pack)
    with pytest.raises(ModelError, match=r"linear_fc2\.weight is stored as torch\.uint8\n .*packed"):
        read(written, QWEN3)


def test_a_damaged_checkpoint_is_named(written: Path) -> None:
    data = next(written.glob("release/*.distcp"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"release cannot be read: .*\n  It is damaged"):
        source = read(written, QWEN3)
        for name in source.shapes:
            source.read(name)
    (written / "release" / ".metadata").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match=r"release cannot be read"):
        read(written, QWEN3)


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged() -> None:
    with reachable_folder() as place:
        folder = write(place / "model", QWEN3)
        with locked(folder / "release" / ".metadata"), pytest.raises(RunError, match="metadata cannot be used: Perm"):
            read(folder, QWEN3)
        source = read(folder, QWEN3)
        with locked(folder / "release" / "__0_0.distcp"), pytest.raises(RunError, match="distcp cannot be used: Perm"):
            source.read("model.norm.weight")
        with locked(folder / "release"), pytest.raises(ConfigError, match="may not be looked into"):
            read(folder, QWEN3)


@pytest.mark.parametrize("number", ["nan", "inf", "0"])
def test_an_amax_that_is_no_positive_number_is_named(number: str, tmp_path: Path) -> None:
    linear, folder = "mlp.linear_fc2", _make(tmp_path / "release")
    key = f"decoder.layers.0.{linear}.weight_quantizer._amax"
    with open_writer(folder) as writer:
        writer.add_outside_layers(RandomSource(QWEN3, seed=5), QWEN3, PADDED_ROWS)
        writer.add(Piece(key, (1,), (0,), (1,), lambda: torch.tensor([float(number)])))
    (tmp_path / TRACKER_NAME).write_text("release")
    with pytest.raises(ModelError, match=rf"{key} holds what is no amax"):
        read(tmp_path, QWEN3).read_amax(0, linear, "weight")


def test_a_full_disk_is_the_outsides_fault_whichever_file_it_hits(tmp_path: Path) -> None:
    for name in ("common.pt", "metadata.json", ".metadata", "__0_0.distcp"):
        folder = _make(tmp_path / "release")
        (folder / name).symlink_to("/dev/full")
        with pytest.raises(OutsideError, match=r"release could not be written: .*\n  Free disk space"):
            write_weights(RandomSource(QWEN3, seed=5), QWEN3, folder, PADDED_ROWS)


def _build(architecture: ArchitectureConfig, context: RankContext) -> Any:
    config = make_transformer_config(architecture, ParallelismConfig(), params_dtype=torch.float32)
    return build_gpt_model(architecture, config, context)


def _build_with_megatrons_experts() -> Any:
    """megatron-core's model of a QWEN3_MOE, with its SequentialMLP, of random weights."""
    config = make_transformer_config(QWEN3_MOE, ParallelismConfig(), params_dtype=torch.float32)
    config.use_te_activation_func = False  # that module is our spec's
    spec: Any = get_gpt_layer_local_spec(num_experts=8, normalization="RMSNorm", qk_layernorm=True)
    # megatron-core's own norm wants Apex, its attention a GPU.
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = RMSNorm
    attention = spec.submodules.self_attention.submodules
    attention.q_layernorm = attention.k_layernorm = RMSNorm
    attention.core_attention = CausalSelfAttention
    options: dict[str, Any] = {"share_embeddings_and_output_weights": False, "position_embedding_type": "rope"}
    model = GPTModel(config, spec, 96, 64, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    return model


def _make(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _change_metadata(folder: Path, change: Callable[[Metadata], None]) -> None:
    path = folder / "release" / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def _rename(metadata: Metadata, new: Callable[[str], str]) -> None:
    metadata.state_dict_metadata = {new(key): value for key, value in metadata.state_dict_metadata.items()}
    metadata.storage_data = {
        MetadataIndex(new(index.fqn), index.offset): place for index, place in metadata.storage_data.items()
    }


def _copy_entries(metadata: Metadata, names: dict[str, str]) -> None:
    for new, old in names.items():
        metadata.state_dict_metadata[new] = metadata.state_dict_metadata[old]
        places = {index.offset: place for index, place in metadata.storage_data.items() if index.fqn == old}
        metadata.storage_data |= {MetadataIndex(new, offset): place for offset, place in places.items()}
