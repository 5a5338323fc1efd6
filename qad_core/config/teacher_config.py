"""The teacher's shape as Megatron's scripts took it (TEACHER_MODEL_CONFIG): a YAML in Megatron's names.

Owns which of its keys are fields of our architecture, and what is said about the others. `family` and
`moe_normalize_topk`, which Megatron's names do not tell, may be there in our own. What it leaves out is the base's: the
teacher's own config.json where it has one, else the student's (`architecture.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from qad_core.config.fields import nearest
from qad_core.config.schema import ArchitectureConfig
from qad_core.config.yaml_file import read_yaml
from qad_core.errors import ConfigError

_FIELDS: Mapping[str, str] = {
    **{
        name: name
        for name in ArchitectureConfig.model_fields
        if name not in ("rope_scaling", "tie_word_embeddings", "rms_norm_epsilon")
    },
    "num_experts": "num_moe_experts",
    "norm_epsilon": "rms_norm_epsilon",
    "layernorm_epsilon": "rms_norm_epsilon",
    "rms_norm_epsilon": "rms_norm_epsilon",
    "padded_vocab_size": "vocab_size",
}
"""Megatron's name -> ours."""
_FIXED: Mapping[str, tuple[object, ...]] = {
    "normalization": ("RMSNorm",),
    "swiglu": (True,),
    "gated_linear_unit": (True,),
    "group_query_attention": (True,),
    "position_embedding_type": ("rope",),
    "rotary_percent": (1.0,),
    "disable_bias_linear": (True,),
    "add_bias_linear": (False,),
    "add_qkv_bias": (False,),
    "multi_latent_attention": (False,),
    "moe_layer_freq": (1,),
    "moe_shared_expert_intermediate_size": (None,),
}
"""Key -> the only values that the models here have."""
_RUNNING = frozenset(
    {
        "attention_dropout", "hidden_dropout", "bf16", "fp16", "params_dtype", "seq_length", "micro_batch_size",
        "tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size",
        "expert_tensor_parallel_size", "context_parallel_size", "sequence_parallel", "make_vocab_size_divisible_by",
        "recompute_granularity", "recompute_method", "recompute_num_layers", "gradient_accumulation_fusion",
        "masked_softmax_fusion", "apply_rope_fusion", "bias_swiglu_fusion", "moe_grouped_gemm", "moe_permute_fusion",
        "moe_aux_loss_coeff", "moe_router_dtype", "moe_router_load_balancing_type", "moe_token_dispatcher_type",
        "tokenizer_type", "tokenizer_model", "transformer_impl", "init_method_std",
    }
)  # fmt: skip
"""Keys on how a model runs, is split or is trained, none of which is its shape; the run's own config has them."""


def read_teacher_config(path: Path, base: ArchitectureConfig) -> ArchitectureConfig:
    """The base with what the file says laid over it.

    Raises ConfigError when the file cannot be read, or says something that no model here can be.
    """
    named = _read_fields(path, base)
    if named.get("num_moe_experts") is not None and base.family == "qwen3":
        named.setdefault("family", "qwen3_moe")
    try:
        return ArchitectureConfig.model_validate(base.model_dump() | named)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{path} has wrong values: {wrong}", "Correct it.") from error


def _read_fields(path: Path, base: ArchitectureConfig) -> dict[str, object]:
    """Field of our architecture -> the file's value, of those that it names; raises as `read_teacher_config`."""
    named: dict[str, object] = {}
    wrong: list[str] = []
    values = read_yaml(path).values
    family = str(values.get("family", base.family))
    for key, value in values.items():
        if key in _FIELDS:
            named[_FIELDS[key]] = value
        elif key == "untie_embeddings_and_output_weights" and isinstance(value, bool):
            named["tie_word_embeddings"] = not value
        elif refusal := _refuse(key, value, family):
            wrong.append(refusal)
    if wrong:
        hint = "Write the teacher's shape alone: num_layers, hidden_size, num_query_groups, kv_channels ..."
        raise ConfigError(f"{path}: {'; '.join(wrong)}", hint)
    return named


def _refuse(key: str, value: object, family: str) -> str:
    """Why a key that sets no field cannot be followed; empty where it says what is so, or is not of the shape."""
    if key in _RUNNING:
        return ""
    if key == "qk_layernorm":
        has = family != "llama"
        return "" if value is has else f"qk_layernorm is {value}, but a {family} has {has}"
    if key in _FIXED:
        wanted = _FIXED[key][0]
        return "" if value in _FIXED[key] else f"{key} is {value!r}, but the models here have {wanted!r}"
    near = nearest(key, [*_FIELDS, *_FIXED])
    return f"{key!r} is not known here" + (f" (did you mean {near}?)" if near else "")
