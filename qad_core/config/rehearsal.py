"""A run's config shrunken for a rehearsal: the same structure over the same ranks, small enough for a CPU.

A pure function. What decides which code runs, and how it is laid over ranks, stays: family, layout, quantization,
loss, recomputation, and which sizes are equal, one, several a rank, or another model's. What is only large is made
small: widths, layers, experts, vocabulary, sequences, batches and steps; and weights and tokens are made on the spot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qad_core.config.checks_layout import NVFP4_BLOCK
from qad_core.config.intermediate_layers import layer_number
from qad_core.config.paths import BYTES, RANDOM
from qad_core.config.schema import (
    ArchitectureConfig,
    ClusterConfig,
    DatasetConfig,
    DistillationConfig,
    EvaluationConfig,
    ModelConfig,
    ParallelismConfig,
    PathsConfig,
    RunConfig,
    SourceConfig,
    TrainConfig,
)

STOP_STEP = 2
"""The first start ends after it, saved."""
STEPS = 3
"""Optimizer steps in all; those after `STOP_STEP` are the resumed start's."""
TEACHER_CONFIG = "teacher.yaml"
"""In the rehearsal's folder: the teacher's shape, where it is another than the student's."""
CHATS = "chats.jsonl"
"""In the rehearsal's folder: chats, where the loss counts answers alone."""
_MANY = 2
"""What stands for all larger counts: layers a stage, heads a rank, experts a rank, forward passes a step."""
_VOCABULARY = 512
"""Tokens at least, of which `bytes` takes 257."""
_SEQUENCE = 32
"""Tokens of a sequence at least."""
_CHARACTERS = 60_000
"""Of made text: some dozens of documents, so that every split has one."""
_TIMEOUT_MINUTES = 10.0
"""Ranks that wait for each other longer, with nothing to compute to speak of, hang."""


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal runs."""

    config: RunConfig
    teacher: ArchitectureConfig | None
    """The teacher's shape where it is another than the student's, to be written to `TEACHER_CONFIG`."""


def shrink_run(config: RunConfig, student: ArchitectureConfig, teacher: ArchitectureConfig, folder: Path) -> Rehearsal:
    """The config to rehearse a run by, with everything that it writes below `folder`.

    `student` and `teacher` are the run's own shapes. The config must be one that `check` finds no problem of layout
    in: what is shrunken has a problem where the run has one.
    """
    layout = config.parallelism
    small = shrink_shape(student, teacher, layout)
    # A teacher's scaling of the rotary embedding changes neither what code runs nor how, and no file has a name for it.
    small_teacher = shrink_shape(teacher, student, layout).model_copy(update={"rope_scaling": small.rope_scaling})
    differs = small_teacher != small
    train = _shrink_train(config)
    shrunken = config.model_copy(
        update={
            "tag": "",
            "model": _shrink_model(config.model, small, folder / TEACHER_CONFIG if differs else None),
            "dataset": _made_dataset(config.dataset, folder),
            "cluster": ClusterConfig(
                name="rehearsal", device="cpu", processes_per_node=config.cluster.world_size, threads_per_process=1
            ),
            "quantization": config.quantization.model_copy(
                update={"calibration_sequences": min(config.quantization.calibration_sequences, _round(config, train))}
            ),
            "distillation": _shrink_distillation(config, train, student, small).model_copy(
                update={"intermediate_layers": _shrink_pairs(config, (student, small), (teacher, small_teacher))}
            ),
            "train": train,
            "evaluation": EvaluationConfig(
                interval=0, sequences=min(config.evaluation.sequences, _round(config, train))
            ),
            "checkpoint": config.checkpoint.model_copy(update={"interval": 0}),
            "paths": PathsConfig(
                checkpoint_root=folder, data_cache=folder / "data_cache", models_root=folder / "models"
            ),
        }
    )
    return Rehearsal(shrunken, small_teacher if differs else None)


def shrink_shape(shape: ArchitectureConfig, other: ArchitectureConfig, layout: ParallelismConfig) -> ArchitectureConfig:
    """The smallest shape of the same structure under a layout; larger than `other`'s wherever `shape` is.

    A size that ranks share has one share a rank where it has one in `shape`, and two where it has more.
    """
    tensor, stages = layout.tensor_model_parallel_size, layout.pipeline_model_parallel_size
    groups = _size(shape.num_query_groups, other.num_query_groups, tensor)
    return shape.model_copy(
        update={
            "num_layers": _size(shape.num_layers, other.num_layers, stages),
            "hidden_size": _size(shape.hidden_size, other.hidden_size, 2 * NVFP4_BLOCK),
            "ffn_hidden_size": _size(shape.ffn_hidden_size, other.ffn_hidden_size, tensor * NVFP4_BLOCK),
            "num_attention_heads": groups * _size(_queries(shape), _queries(other), 1),
            "num_query_groups": groups,
            "kv_channels": _size(shape.kv_channels, other.kv_channels, NVFP4_BLOCK, most=1),
            "vocab_size": tensor * -(-_VOCABULARY // tensor),
            **_expert_sizes(shape, other, layout),
        }
    )


def _expert_sizes(shape: ArchitectureConfig, other: ArchitectureConfig, layout: ParallelismConfig) -> dict[str, object]:
    """The sizes of a mixture of experts; a dense `other` is no larger."""
    experts, chosen, width = shape.num_moe_experts, shape.moe_router_topk, shape.moe_ffn_hidden_size
    if experts is None or chosen is None or width is None:
        return {}
    ranks, block = layout.expert_model_parallel_size, layout.tensor_model_parallel_size * NVFP4_BLOCK
    few_chosen = _size(chosen, other.moe_router_topk or chosen, 1)
    few = _size(experts, other.num_moe_experts or experts, ranks)
    while few < few_chosen + (chosen < experts):
        few += ranks
    return {
        "num_moe_experts": few,
        "moe_router_topk": few if chosen == experts else few_chosen,
        "moe_ffn_hidden_size": _size(width, other.moe_ffn_hidden_size or width, block, most=1),
    }


def _size(value: int, of_other: int, unit: int, *, most: int = _MANY) -> int:
    """At most `most` units, as many as in `value` where it has fewer; twice as many where it exceeds the other."""
    return unit * max(1, min(value // unit, most)) * (2 if value > of_other else 1)


def _queries(shape: ArchitectureConfig) -> int:
    """Query heads of one key/value head."""
    return shape.num_attention_heads // shape.num_query_groups


def _shrink_model(model: ModelConfig, small: ArchitectureConfig, teacher_config: Path | None) -> ModelConfig:
    return model.model_copy(
        update={
            "weights": RANDOM,
            "teacher_weights": None if model.teacher_weights is None and teacher_config is None else RANDOM,
            "teacher_config": None if teacher_config is None else str(teacher_config),
            "tokenizer": BYTES,
            "architecture": small,
        }
    )


def _made_dataset(dataset: DatasetConfig, folder: Path) -> DatasetConfig:
    """Text made on the spot; answers are asked of chats, which `bytes` has no template for."""
    source = SourceConfig(kind="made", max_characters=_CHARACTERS)
    if dataset.answer_loss_only:
        source = SourceConfig(kind="jsonl", paths=(str(folder / CHATS),), template="plain")
    return dataset.model_copy(
        update={"blend": None, "source": source, "sources": {}, "valid_fraction": 0.2, "test_fraction": 0.0}
    )


def _shrink_train(config: RunConfig) -> TrainConfig:
    """Few short sequences a step, but as many micro-batches as fill the pipeline where the run's do."""
    train, layout = config.train, config.parallelism
    micro = min(train.micro_batch_size, _MANY)
    passes = min(config.num_micro_batches, layout.pipeline_model_parallel_size + 1)
    batch = micro * config.data_parallel_size * passes
    tensor = layout.tensor_model_parallel_size
    return train.model_copy(
        update={
            "micro_batch_size": micro,
            "global_batch_size": batch,
            "sequence_length": tensor * -(-_SEQUENCE // tensor),
            "train_samples": batch * STEPS,
            "iterations_to_skip": (),
            "exit_duration_minutes": None,
            "exit_iteration": None,
            "distributed_timeout_minutes": _TIMEOUT_MINUTES,
        }
    )


def _round(config: RunConfig, train: TrainConfig) -> int:
    """Sequences of one forward pass of all replicas."""
    return train.micro_batch_size * config.data_parallel_size


def _shrink_distillation(
    config: RunConfig, train: TrainConfig, shape: ArchitectureConfig, small: ArchitectureConfig
) -> DistillationConfig:
    """The same loss, with as many chunks of a micro-batch, and as large a part of the vocabulary in the top k."""
    tokens, fewer = (item.micro_batch_size * item.sequence_length for item in (config.train, train))
    chunk, top_k = config.distillation.chunk_tokens, config.distillation.top_k
    return config.distillation.model_copy(
        update={
            "config": None,  # what it says is in the other fields
            "chunk_tokens": max(1, min(chunk, fewer, -(-chunk * fewer // tokens))) if chunk else 0,
            "top_k": max(1, top_k * small.vocab_size // shape.vocab_size) if top_k else 0,
        }
    )


def _shrink_pairs(
    config: RunConfig,
    student: tuple[ArchitectureConfig, ArchitectureConfig],
    teacher: tuple[ArchitectureConfig, ArchitectureConfig],
) -> tuple[tuple[str, ...], ...]:
    """Pairs of compared layers, as far from the end as there are layers on the last stage; each once."""
    stages = config.parallelism.pipeline_model_parallel_size
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    for entry in config.distillation.intermediate_layers:
        names = tuple(
            _shrink_layer(name, *shapes, stages) for name, shapes in zip(entry[:2], (student, teacher), strict=True)
        )
        pairs.setdefault(names, (*names, *entry[2:]))
    return tuple(pairs.values())


def _shrink_layer(name: str, shape: ArchitectureConfig, small: ArchitectureConfig, stages: int) -> str:
    number = layer_number(name)
    if number is None:
        return name
    from_end = min(shape.num_layers - number, small.num_layers // stages)
    return name.replace(f".{number}", f".{small.num_layers - from_end}", 1)
