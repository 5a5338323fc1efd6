"""Names of the tensors of a Megatron GPT checkpoint, and what of each is which Hugging Face tensor.

Owns the naming for readers and writers alike: Megatron-LM's local and TransformerEngine specs, layers stacked along a
leading axis or named one by one, and experts of SequentialMLP, TEGroupedMLP and our `GroupedExperts`. Who opens files
is `megatron_source.py`. Source: the `sharded_state_dict` methods of megatron-core 0.16.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qad_core.config.schema import ArchitectureConfig
from qad_core.models.hf_tensors import EMBEDDING, FINAL_NORM, OUTPUT, ROUTER, Shape, expert_prefix, layer_prefix

LINEARS = ("self_attention.linear_qkv", "self_attention.linear_proj", "mlp.linear_fc1", "mlp.linear_fc2")
"""Linears of a dense layer; a mixture has `EXPERT_LINEARS` in place of the last two."""
EXPERT_LINEARS = ("mlp.experts.linear_fc1", "mlp.experts.linear_fc2")
NAMES = {
    "embedding.word_embeddings.weight": EMBEDDING,
    "decoder.final_layernorm.weight": FINAL_NORM,
    "output_layer.weight": OUTPUT,
}
LAYER_NAMES = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "self_attention.q_layernorm.weight": "self_attn.q_norm.weight",
    "self_attention.k_layernorm.weight": "self_attn.k_norm.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.linear_fc1.weight_w": "mlp.gate_proj.weight",
    "mlp.linear_fc1.weight_v": "mlp.up_proj.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
    "mlp.router.weight": ROUTER,
}
"""Tensors inside a layer that are one Hugging Face tensor each, in the names that our models save."""
_OTHER_LAYER_NAMES = {
    "input_layernorm.weight": "input_layernorm.weight",
    "pre_mlp_layernorm.weight": "post_attention_layernorm.weight",
}
"""As `LAYER_NAMES`, in the names of other specs."""
_LAYER = re.compile(r"decoder\.layers\.(?:(\d+)\.)?(.+)")
_EXPERT = re.compile(r"mlp\.experts\.(?:experts\.)?(?:(\d+)\.)?linear_(fc1|fc2)\.(weight(?:_[wv])?)")
_IN_A_MODEL = re.compile(r"(?:model|module)\.(?=embedding\.|decoder\.|output_layer\.)")
_NOT_WEIGHTS = re.compile(r"(^|\.)(optimizer|chained_\d+|opt_param_scheduler|rng_state|rerun_state_machine_state)\.")


class Stored(NamedTuple):
    """Where one Hugging Face tensor lies in a checkpoint."""

    key: str
    """Name of the tensor that it is a part of."""
    leading: tuple[int, ...]
    """Its place along the leading axes: layer, expert, gate or up, where the tensor has such."""
    rows: tuple[tuple[int, int], ...]
    """(first, number) of the rows of the next axis that come one after the other in it."""

    def shape(self, size: Sequence[int]) -> Shape:
        """Shape of it, where the whole tensor is `size`."""
        return sum(number for _, number in self.rows), *size[len(self.leading) + 1 :]


def is_weight(key: str) -> bool:
    """Whether a tensor may be a model's: no optimizer's, quantizer's or TransformerEngine's state."""
    return not (_NOT_WEIGHTS.search(key) or "_extra_state" in key or "_quantizer." in key)


def without_prefix(key: str) -> str:
    """The name as megatron-core's GPTModel has it: some save it as a part of something else."""
    return _IN_A_MODEL.sub("", key, count=1)


def list_stored(key: str, size: Sequence[int], architecture: ArchitectureConfig) -> Iterator[tuple[str, Stored]]:
    """The Hugging Face tensors in the tensor `key`; one that is not known is itself, to be reported as unused.

    Rows of the vocabulary beyond the architecture's are padding and left out.
    """
    name = without_prefix(key)
    match = _LAYER.fullmatch(name)
    if name in NAMES:
        rows = size[0] if name == "decoder.final_layernorm.weight" else min(size[0], architecture.vocab_size)
        yield NAMES[name], Stored(key, (), ((0, rows),))
        return
    parts = list(_list_layer_parts(key, match, size, architecture)) if match else []
    yield from parts or [(key, Stored(key, (), ((0, size[0] if size else 1),)))]


def _list_layer_parts(
    key: str, match: re.Match[str], size: Sequence[int], architecture: ArchitectureConfig
) -> Iterator[tuple[str, Stored]]:
    layers = [(int(match[1]), ())] if match[1] else [(layer, (layer,)) for layer in range(size[0])]
    rest = size if match[1] else size[1:]
    for layer, leading in layers:
        for name, inside, rows in _list_parts(match[2], rest, architecture):
            yield layer_prefix(layer) + name, Stored(key, (*leading, *inside), rows)


def _list_parts(
    name: str, size: Sequence[int], architecture: ArchitectureConfig
) -> Iterator[tuple[str, tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """(Hugging Face name, leading indices, rows) of each part of a tensor of a layer."""
    whole = {**LAYER_NAMES, **_OTHER_LAYER_NAMES}.get(name)
    expert = _EXPERT.fullmatch(name)
    if whole is not None:
        yield whole, (), ((0, size[0]),)
    elif name == "self_attention.linear_qkv.weight":
        yield from _list_projections(size[0], architecture)
    elif name == "mlp.linear_fc1.weight":
        yield from _list_gate_and_up("mlp.", (), size)
    elif expert and expert[1]:
        yield from _list_expert(int(expert[1]), (), expert, size)
    elif expert:
        for number in range(size[0]):
            yield from _list_expert(number, (number,), expert, size[1:])


def _list_projections(
    rows: int, architecture: ArchitectureConfig
) -> Iterator[tuple[str, tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """Queries, keys and values lie group by group: a group's queries, its key, its value."""
    width = architecture.kv_channels
    queries = architecture.num_attention_heads // architecture.num_query_groups * width
    group = queries + 2 * width
    if rows != group * architecture.num_query_groups:
        return
    for kind, first, number in (("q", 0, queries), ("k", queries, width), ("v", queries + width, width)):
        starts = range(first, rows, group)
        yield f"self_attn.{kind}_proj.weight", (), tuple((start, number) for start in starts)


def _list_expert(
    expert: int, leading: tuple[int, ...], match: re.Match[str], size: Sequence[int]
) -> Iterator[tuple[str, tuple[int, ...], tuple[tuple[int, int], ...]]]:
    prefix, kind = expert_prefix(expert), match[3]
    if match[2] == "fc1" and kind == "weight":
        yield from _list_gate_and_up(prefix, leading, size)
    else:
        name = "down" if match[2] == "fc2" else {"weight_w": "gate", "weight_v": "up"}[kind]
        yield f"{prefix}{name}_proj.weight", leading, ((0, size[0]),)


def _list_gate_and_up(
    prefix: str, leading: tuple[int, ...], size: Sequence[int]
) -> Iterator[tuple[str, tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """Gate above up, or, in our experts, gate and up along an axis of their own."""
    for index, name in enumerate(("gate", "up")):
        if len(size) == 3:
            yield f"{prefix}{name}_proj.weight", (*leading, index), ((0, size[1]),)
        elif size[0] % 2 == 0:
            half = size[0] // 2
            yield f"{prefix}{name}_proj.weight", leading, ((index * half, half),)
