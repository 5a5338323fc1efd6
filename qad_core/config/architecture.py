"""The shape of a model, read from the config.json of a transformers folder; and where each model's shape comes from.

Owns which architectures the product takes and how their keys are called. Sources: transformers'
`Qwen3Config`, `Qwen3MoeConfig` and `LlamaConfig`; version 5 writes `rope_parameters` where version 4 wrote
`rope_theta` and `rope_scaling`, and both are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import ValidationError

from qad_core.config.megatron_folder import MANIFEST, find_iteration, read_manifest_architecture
from qad_core.config.paths import resolve_teacher_weights, resolve_weights
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.config.teacher_config import read_teacher_config
from qad_core.errors import ConfigError
from qad_core.seen import is_file

Family = Literal["qwen3", "llama", "qwen3_moe"]
_CONFIG = "config.json"
_FAMILIES: Mapping[str, Family] = {
    "Qwen3ForCausalLM": "qwen3",
    "LlamaForCausalLM": "llama",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}
_SHAPE_KEYS: Mapping[str, str] = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}
_REFUSED: tuple[tuple[str, object, str], ...] = (
    ("hidden_act", "silu", "the MLP is SwiGLU"),
    ("attention_bias", False, "the linear layers have no bias"),
    ("mlp_bias", False, "the linear layers have no bias"),
    ("use_sliding_window", False, "attention is causal over the whole sequence"),
    ("quantization_config", None, "weights must be in bf16, fp16 or fp32"),
)
"""(key, the only value taken, why); an absent key has that value."""
_REFUSED_OF_EXPERTS: tuple[tuple[str, object, str], ...] = (
    ("decoder_sparse_step", 1, "every layer has experts"),
    ("mlp_only_layers", [], "every layer has experts"),
)
"""As `_REFUSED`, of a `qwen3_moe`."""
_EXPERT_KEYS: Mapping[str, tuple[str, ...]] = {
    "num_moe_experts": ("num_experts", "num_local_experts"),
    "moe_router_topk": ("num_experts_per_tok",),
    "moe_ffn_hidden_size": ("moe_intermediate_size",),
}
"""Field -> the key's spellings: transformers 5 writes `num_local_experts` where version 4 wrote `num_experts`."""
_DEFAULT_ROPE_THETA = 10_000.0
"""transformers' own where config.json names none."""


def read_architecture(folder: Path) -> ArchitectureConfig:
    """The shape in `folder`/config.json.

    Raises ConfigError when the file is not there, is not JSON, or is of another architecture than
    Qwen3ForCausalLM, LlamaForCausalLM and Qwen3MoeForCausalLM without biases, sliding windows or packed weights,
    and, of the last, with experts in every layer.
    """
    path = folder / _CONFIG
    values = _read_json(path)
    family = _family(path, values)
    _refuse_other_models(path, values, family)
    theta, scaling = _rope(path, values)
    fields = _shape_fields(path, values, family) | {
        "family": family,
        "num_query_groups": values.get("num_key_value_heads") or values["num_attention_heads"],
        "kv_channels": values.get("head_dim") or _default_head_dim(values),
        "rotary_base": theta,
        "rms_norm_epsilon": values.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": values.get("tie_word_embeddings", False),
        "rope_scaling": scaling,
    }
    try:
        return ArchitectureConfig.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{path} has wrong values: {wrong}", "Fetch the file again.") from error


def shape_file(weights: Path) -> Path | None:
    """The file beside weights that says their shape: config.json, or the manifest of a checkpoint; None without one."""
    try:
        saved = find_iteration(weights)
    except ConfigError:
        return None  # told where the weights are checked
    if saved is not None and is_file(saved.folder / MANIFEST):
        return saved.folder / MANIFEST
    folder = config_folder(weights)
    return None if folder is None else folder / _CONFIG


def config_folder(weights: Path) -> Path | None:
    """The folder with the config.json of weights, for a checkpoint its own or the one that it lies in; None without."""
    try:
        saved = find_iteration(weights)
    except ConfigError:
        return None
    places = [weights] if saved is None else [saved.folder, saved.folder.parent]
    return next((place for place in places if is_file(place / _CONFIG)), None)


def read_shape(path: Path) -> ArchitectureConfig:
    """The shape in a file that `shape_file` found; raises ConfigError as `read_architecture`."""
    return read_manifest_architecture(path) if path.name == MANIFEST else read_architecture(path.parent)


def architecture_file(config: RunConfig) -> Path | None:
    """The file to read the student's shape from; None when the config has it or there is no such file.

    Raises ConfigError as `resolve_weights`.
    """
    if config.model.architecture is not None:
        return None
    weights = resolve_weights(config.model, config.paths.models_root)
    return shape_file(weights) if isinstance(weights, Path) else None


def with_architecture(config: RunConfig) -> RunConfig:
    """The config with the student's shape filled in from beside its weights, where it is lacking and can be read."""
    model = config.model.model_copy(update={"architecture": student_architecture(config)})
    return config.model_copy(update={"model": model})


def student_architecture(config: RunConfig) -> ArchitectureConfig | None:
    """The student's shape: the config's, else the one beside its weights; None when neither is there.

    Raises ConfigError as `read_architecture`.
    """
    path = architecture_file(config)
    return config.model.architecture if path is None else read_shape(path)


def teacher_architecture(config: RunConfig) -> ArchitectureConfig | None:
    """The teacher's shape: `model.teacher_config` laid over the shape that goes with its weights; None when unknown.

    Raises ConfigError as `read_architecture` and `read_teacher_config`.
    """
    base = teacher_base(config)
    if config.model.teacher_config is None or base is None:
        return base
    return read_teacher_config(Path(config.model.teacher_config), base)


def teacher_base(config: RunConfig) -> ArchitectureConfig | None:
    """The shape that goes with the teacher's weights: the one beside them where there is one, else the student's.

    Raises ConfigError as `read_architecture`.
    """
    if config.model.teacher_weights is not None:
        weights = resolve_teacher_weights(config.model, config.paths.models_root)
        path = shape_file(weights) if isinstance(weights, Path) else None
        if path is not None:
            return read_shape(path)
    return student_architecture(config)


def differing_fields(one: ArchitectureConfig, other: ArchitectureConfig) -> list[tuple[str, object, object]]:
    """(field, value of one, value of the other) of each field in which two shapes differ."""
    names = ArchitectureConfig.model_fields
    return [(name, getattr(one, name), getattr(other, name)) for name in names if _differs(name, one, other)]


def _differs(name: str, one: ArchitectureConfig, other: ArchitectureConfig) -> bool:
    return getattr(one, name) != getattr(other, name)


def _read_json(path: Path) -> dict[str, object]:
    try:
        values: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "Name a transformers folder.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", "Fetch the file again.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no JSON object", "Fetch the file again.")
    return cast("dict[str, object]", values)


def _family(path: Path, values: Mapping[str, object]) -> Family:
    named = values.get("architectures")
    names = [str(name) for name in cast("list[object]", named)] if isinstance(named, list) else []
    for name in names:
        if name in _FAMILIES:
            return _FAMILIES[name]
    raise ConfigError(
        f"{path}: architecture {', '.join(names) or 'not named'}",
        f"Models of {', '.join(_FAMILIES)} can be trained.",
    )


def _refuse_other_models(path: Path, values: Mapping[str, object], family: Family) -> None:
    for key, wanted, why in (*_REFUSED, *(_REFUSED_OF_EXPERTS if family == "qwen3_moe" else ())):
        found = values.get(key, wanted)
        if found != wanted and not (found is None and wanted == []):
            raise ConfigError(f"{path}: {key} is {found!r}, but {why}", "This model cannot be trained here.")


def _shape_fields(path: Path, values: Mapping[str, object], family: Family) -> dict[str, object]:
    """Fields that config.json must name; raises ConfigError with those that it does not."""
    shape: dict[str, tuple[str, ...]] = {name: (key,) for name, key in _SHAPE_KEYS.items()}
    spellings = {**shape, **_EXPERT_KEYS} if family == "qwen3_moe" else shape
    found = {name: next((key for key in keys if values.get(key) is not None), None) for name, keys in spellings.items()}
    missing = [spellings[name][0] for name, key in found.items() if key is None]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}", "Fetch the file again, or write model.architecture.")
    fields = {name: values[key] for name, key in found.items() if key is not None}
    if family == "qwen3_moe":
        fields["moe_normalize_topk"] = values.get("norm_topk_prob", False)  # as transformers has it where it is absent
    return fields


def _rope(path: Path, values: Mapping[str, object]) -> tuple[object, dict[str, object] | None]:
    """(base, scaling) of the rotary embedding; the scaling is None for plain RoPE."""
    named: object = values.get("rope_parameters") or values.get("rope_scaling") or dict[str, object]()
    if not isinstance(named, dict):
        raise ConfigError(f"{path}: rope_scaling is {named!r}", "Fetch the file again.")
    scaling = dict(cast("dict[str, object]", named))
    theta = scaling.pop("rope_theta", None) or values.get("rope_theta", _DEFAULT_ROPE_THETA)
    kind = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ConfigError(f"{path}: rope_type is {kind!r}", "Plain RoPE and llama3 can be trained.")
    return theta, {"rope_type": "llama3", **scaling}


def _default_head_dim(values: Mapping[str, object]) -> object:
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None
