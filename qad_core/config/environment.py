"""Environment variables that set config values: the scripts' names, in one table.

Owns which variable means which field. Variables of the rendezvous between machines (NODE_RANK,
MASTER_ADDR) belong to the launcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ENVIRONMENT_KEYS: Mapping[str, str] = {
    "STUDENT_MODEL": "model",  # a part of configs/models, as it chose a conf file of the scripts
    "STUDENT_CKPT": "model.weights",
    "TEACHER_MODEL": "model.teacher_name",
    "TEACHER_CKPT": "model.teacher_weights",
    "TEACHER_MODEL_CONFIG": "model.teacher_config",
    "TOKENIZER_MODEL": "model.tokenizer",
    "DATASET_NAME": "dataset",  # a part of configs/datasets
    "BLEND_PATH": "dataset.blend",
    "TP_SIZE": "parallelism.tensor_model_parallel_size",
    "PP_SIZE": "parallelism.pipeline_model_parallel_size",
    "EP_SIZE": "parallelism.expert_model_parallel_size",
    "NNODES": "cluster.nodes",
    "NUM_GPUS": "cluster.processes_per_node",
    "MASTER_PORT": "cluster.master_port",
    "CONTAINER_IMAGE": "cluster.container.image",
    "CONTAINER_MOUNTS": "cluster.container.mounts",  # with commas between them
    "CONTAINER_WORKDIR": "cluster.container.workdir",
    "KD_CFG_PATH": "distillation.config",
    "LR": "train.learning_rate",
    "MIN_LR": "train.min_learning_rate",
    "LR_DECAY_STYLE": "train.learning_rate_decay_style",
    "MBS": "train.micro_batch_size",
    "GBS": "train.global_batch_size",
    "MAX_SEQ": "train.sequence_length",
    "TRAIN_SAMPLES": "train.train_samples",
    # Single 1-based iterations, as Megatron took them; `1-100` is a range. The scripts' comment
    # "skip first N" was wrong: 100 skipped iteration 100 alone, and so it does here.
    "ITERATIONS_TO_SKIP": "train.iterations_to_skip",
    "EVAL_INTERVAL": "evaluation.interval",
    "SAVE_INTERVAL": "checkpoint.interval",
    "RUN_TAG": "tag",
    "QAD_CHECKPOINT_ROOT": "paths.checkpoint_root",
    "DATACACHE_DIR": "paths.data_cache",
    "MODELS_ROOT": "paths.models_root",
}
"""Variable -> dotted key, or the section whose part it names."""

ALIASES: Mapping[str, str] = {name.lower(): key for name, key in ENVIRONMENT_KEYS.items()}
"""The scripts' names in lower case, for guessing what a wrong key means."""


def environment_values(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(variable, dotted key, text) of each variable that is set; an empty one counts as not set."""
    for name, key in ENVIRONMENT_KEYS.items():
        text = environ.get(name, "").strip()
        if text:
            yield name, key, text
