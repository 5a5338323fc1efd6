from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from qad_core.config.schema import ParallelismConfig
from qad_core.errors import ModelError, RunError
from qad_core.models.hf_import import check_tensors
from qad_core.models.hf_tensors import EMBEDDING, OUTPUT
from qad_core.models.tensor_sources import RandomSource, open_tensor_source, read_finite
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from tests.models import smollm2
from tests.models.gguf_file import Tensors, write_gguf
from tests.models.small_models import QWEN3, QWEN3_MOE, compute_logits, load_model, save_transformers_model
from tests.rights import locked, reachable_folder

TIED = QWEN3.model_copy(update={"tie_word_embeddings": True})


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    shut_down_parallel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_transformers_model(QWEN3, tmp_path)
    return tmp_path


def test_a_gguf_model_gives_the_logits_of_transformers(context: RankContext) -> None:
    path = smollm2.GGUF_PATH
    theirs = _load_with_transformers(path)
    tokens = torch.randint(49152, (1, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(tokens).logits
    logits = compute_logits(load_model(path, smollm2.ARCHITECTURE, ParallelismConfig(), context), tokens)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


def test_weights_that_were_quantized_are_refused_by_name(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1\.mlp\.up_proj\.weight is stored as torch\.float8_e4m3fn"):
        open_tensor_source(folder, QWEN3, seed=0).read(name)


def test_shards_with_an_index_are_one_model(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    source = open_tensor_source(folder, QWEN3, seed=0)
    check_tensors(source, QWEN3)
    assert all(torch.equal(source.read(name), tensors[name]) for name in names)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks the shards part-1\.safetensors"):
        open_tensor_source(folder, QWEN3, seed=0)


def test_each_random_tensor_has_its_own_seed() -> None:
    name, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    source = RandomSource(QWEN3, seed=1)
    assert torch.equal(source.read(name), RandomSource(QWEN3, seed=1).read(name))
    assert not torch.equal(source.read(name), source.read(other))
    assert not torch.equal(source.read(name), RandomSource(QWEN3, seed=2).read(name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), r"model\.norm\.weight \[64\] is missing"),
        (
            lambda tensors: tensors.update({"lm_head.weight": torch.zeros(97, 64)}),
            r"lm_head\.weight is \[97, 64\], expected \[96, 64\]",
        ),
        (
            lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(128)}),
            r"q_proj\.bias \[128\] has no place",
        ),
    ],
    ids=["missing", "wrong shape", "unused"],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, change: Callable[[Tensors], object], said: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=said):
        check_tensors(open_tensor_source(folder, QWEN3, seed=0), QWEN3)


def test_a_tied_model_may_hold_its_head_twice_and_no_head_of_its_own(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"lm_head\.weight differs from .*\n .*set tie_word_embeddings to false"):
        check_tensors(open_tensor_source(folder, TIED, seed=0), TIED)
    save_file({**tensors, OUTPUT: tensors[EMBEDDING].clone()}, folder / "model.safetensors")
    check_tensors(open_tensor_source(folder, TIED, seed=0), TIED)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_tensor_with_nan_or_infinite_numbers_is_named(folder: Path, number: str) -> None:
    tensors, name = load_file(folder / "model.safetensors"), "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 5] = float(number)
    save_file(tensors, folder / "model.safetensors")
    source = open_tensor_source(folder, QWEN3, seed=0)
    with pytest.raises(ModelError, match=r"1\.mlp\.up_proj\.weight holds NaN or infinite numbers"):
        read_finite(source, name)
    assert torch.equal(read_finite(source, EMBEDDING), tensors[EMBEDDING])


def test_a_file_that_may_not_be_read_is_not_called_damaged() -> None:
    with reachable_folder() as place:
        save_transformers_model(QWEN3, place)
        write_gguf(place / "model.gguf", TIED)
        for file, weights in (("model.safetensors", place), ("model.gguf", place / "model.gguf")):
            with locked(place / file), pytest.raises(RunError, match=rf"{file} cannot be used: Permission denied"):
                open_tensor_source(weights, TIED, seed=0)


@pytest.mark.parametrize("kept", [0, 4, 0.01, 0.5, 0.999])
def test_a_truncated_safetensors_file_is_refused(folder: Path, kept: float) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        open_tensor_source(folder, QWEN3, seed=0)


def test_a_gguf_of_qwen3_needs_no_reordering_of_heads(tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "model.gguf", TIED)
    source = open_tensor_source(tmp_path / "model.gguf", TIED, seed=0)
    check_tensors(source, TIED)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in tensors.items())


def test_a_gguf_stacks_the_experts_of_a_layer(tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "model.gguf", QWEN3_MOE)
    source = open_tensor_source(tmp_path / "model.gguf", QWEN3_MOE, seed=0)
    check_tensors(source, QWEN3_MOE)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in tensors.items())
    with pytest.raises(ModelError, match=r"expert_used_count is 2, the config says 4"):
        open_tensor_source(tmp_path / "model.gguf", QWEN3_MOE.model_copy(update={"moe_router_topk": 4}), seed=0)


@pytest.mark.parametrize("kept", [0, 4, 0.01, 0.5, 0.999])
def test_a_truncated_gguf_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, TIED)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        open_tensor_source(path, TIED, seed=0)


def test_a_gguf_block_that_cannot_be_dequantized_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", TIED, norm_dtype=torch.float64)
    source = open_tensor_source(tmp_path / "model.gguf", TIED, seed=0)
    with pytest.raises(ModelError, match=r"output_norm\.weight is stored as F64"):
        source.read("model.norm.weight")


def test_a_gguf_whose_metadata_differ_is_another_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", TIED)
    other = TIED.model_copy(update={"rotary_base": 10_000.0, "num_attention_heads": 4})
    with pytest.raises(ModelError, match=r"head_count is 8, the config says 4; .*freq_base is 1000000"):
        open_tensor_source(tmp_path / "model.gguf", other, seed=0)


def test_a_place_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor"):
        open_tensor_source(tmp_path, QWEN3, seed=0)
    with pytest.raises(ModelError, match="no weights at"):
        open_tensor_source(tmp_path / "nowhere", QWEN3, seed=0)


def _load_with_transformers(path: Path) -> torch.nn.Module:
    """transformers' own reading of a GGUF file; its `from_pretrained` would want the accelerate package."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.load_state_dict(load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"], strict=False)
    return model
