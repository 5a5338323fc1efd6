"""Checks of what a config names on the disk: weights, shapes, tokenizers, data, and folders to write in.

Looks, and reads the small JSON files; it opens no weights and writes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from qad_core.config.architecture import (
    differing_fields,
    read_shape,
    shape_file,
    teacher_architecture,
    teacher_base,
)
from qad_core.config.checks_experts import teacher_keys
from qad_core.config.megatron_folder import find_iteration, quantized_teacher_problem
from qad_core.config.paths import RANDOM, TOKENIZERS, resolve_teacher_weights, resolve_tokenizer, resolve_weights
from qad_core.config.problems import Problem
from qad_core.config.schema import ArchitectureConfig, DatasetConfig, ModelConfig, RunConfig, SourceConfig
from qad_core.errors import ConfigError
from qad_core.seen import is_file, is_folder, is_there

_GGUF_MAGIC = b"GGUF"
_FILE_SOURCES = ("text", "jsonl")


def check_files(config: RunConfig) -> Iterator[Problem]:
    """Problems of everything that must be there, or be writable, before a run starts."""
    yield from _check_weights(config, "model.weights", resolve_weights)
    if config.model.teacher_weights is not None:
        yield from _check_weights(config, "model.teacher_weights", resolve_teacher_weights)
    yield from _check_tokenizer(config)
    yield from _check_data(config.dataset)
    for key in ("checkpoint_root", "data_cache"):
        yield from _check_writable(f"paths.{key}", getattr(config.paths, key))


def check_shapes(config: RunConfig) -> Iterator[Problem]:
    """Problems of what the config and the files beside the weights, where they are there, say of the two models."""
    yield from _check_teacher_weights(config)
    yield from _check_architecture(config)
    yield from _check_teacher(config)


def _check_weights(
    config: RunConfig, key: str, resolve: Callable[[ModelConfig, Path], Path | str]
) -> Iterator[Problem]:
    try:
        weights = resolve(config.model, config.paths.models_root)
    except ConfigError as error:
        yield Problem(error.message, key, error.hint)
        return
    hint = "Give a transformers folder, a .gguf file, a Megatron checkpoint, package://PACKAGE/FILE or random."
    if not isinstance(weights, Path):
        return
    if not is_there(weights):
        yield Problem(f"there are no weights at {weights}", f"{key}, paths.models_root", hint)
    elif is_file(weights) and not _starts_with(weights, _GGUF_MAGIC):
        yield Problem(f"{weights} is not a GGUF file that can be read", key, hint)
    elif is_folder(weights):
        yield from _check_folder(weights, key)


def _check_folder(weights: Path, key: str) -> Iterator[Problem]:
    """A Megatron checkpoint that is there, or else a transformers folder."""
    try:
        if find_iteration(weights) is not None:
            return
    except ConfigError as error:
        yield Problem(error.message, key, error.hint)
        return
    lacking = [name for name in ("config.json", "*.safetensors") if not any(weights.glob(name))]
    if lacking:
        hint = (
            "Fetch the model's folder whole; a Megatron checkpoint is a folder with latest_checkpointed_iteration.txt."
        )
        yield Problem(f"{weights} lacks {' and '.join(lacking)}", key, hint)


def _check_teacher_weights(config: RunConfig) -> Iterator[Problem]:
    """The teacher's weights are no trained student's."""
    weights = _found(config, resolve_teacher_weights)
    try:
        saved = find_iteration(weights) if isinstance(weights, Path) else None
    except ConfigError:
        return  # told by `_check_weights`
    problem = quantized_teacher_problem(saved) if saved is not None else None
    if problem is not None:
        yield Problem(problem[0], "model.teacher_weights", problem[1])


def _check_architecture(config: RunConfig) -> Iterator[Problem]:
    """The shape is known, and the config's is the one beside the weights."""
    written = config.model.architecture
    weights = _found(config, resolve_weights)
    path = shape_file(weights) if isinstance(weights, Path) else None
    if path is not None:
        yield from _compare_architecture(written, path)
    elif written is None and (weights == RANDOM or (isinstance(weights, Path) and _says_no_shape(weights))):
        kind = "random weights have" if weights == RANDOM else f"{weights} has"
        hint = "Write the shape: model.architecture.family, num_layers, hidden_size ..."
        yield Problem(f"{kind} no config.json to read the shape from", "model.architecture", hint)


def _says_no_shape(weights: Path) -> bool:
    """Whether weights are there that have no config.json beside them as a transformers folder must."""
    try:
        return is_file(weights) or find_iteration(weights) is not None
    except ConfigError:
        return False  # told by `_check_weights`


def _compare_architecture(written: ArchitectureConfig | None, path: Path) -> Iterator[Problem]:
    try:
        read = read_shape(path)
    except ConfigError as error:
        yield Problem(error.message, "model.weights", error.hint)
        return
    for name, ours, theirs in differing_fields(written, read) if written is not None else ():
        what = f"{name} is {ours!r} in the config, but {theirs!r} in {path}"
        hint = f"Leave model.architecture out to take the shape of {path.name}, or name other weights."
        yield Problem(what, f"model.architecture.{name}, model.weights", hint)


def _check_teacher(config: RunConfig) -> Iterator[Problem]:
    """The teacher's shape can be read, is that of its weights, and has the student's vocabulary."""
    key = teacher_keys(config)
    if config.model.teacher_config is not None and not is_file(Path(config.model.teacher_config)):
        hint = "Name the YAML with its shape, or leave it out: config.json beside the weights has it."
        yield Problem(f"there is no teacher config at {config.model.teacher_config}", key, hint)
        return
    student = config.model.architecture
    try:
        base, teacher = teacher_base(config), teacher_architecture(config)
    except ConfigError as error:
        if config.model.teacher_weights is not None or config.model.teacher_config is not None:
            yield Problem(error.message, key, error.hint)
        return
    if base is None or teacher is None:
        return
    if teacher != base and _has_shape_of_its_own(config):
        yield from _compare_teacher(teacher, base)
    if student is not None and teacher.vocab_size != student.vocab_size:
        what = f"the teacher's vocab_size is {teacher.vocab_size}, the student's {student.vocab_size}"
        keys = f"{key}, model.architecture.vocab_size"
        yield Problem(what, keys, "Take a teacher with the student's vocabulary: the loss compares token by token.")


def _has_shape_of_its_own(config: RunConfig) -> bool:
    """Whether the teacher's weights say what shape they have: a file beside them, or the student's own weights."""
    weights = _found(config, resolve_teacher_weights)
    return config.model.teacher_weights is None or (isinstance(weights, Path) and shape_file(weights) is not None)


def _compare_teacher(teacher: ArchitectureConfig, base: ArchitectureConfig) -> Iterator[Problem]:
    for name, ours, theirs in differing_fields(teacher, base):
        if name == "max_position_embeddings":  # no weight depends on it, and releases differ in it
            continue
        what = f"the teacher's {name} is {ours!r} in its config, but {theirs!r} with its weights"
        hint = "Correct the YAML or leave it out, or name the weights that it is of."
        yield Problem(what, "model.teacher_config, model.teacher_weights", hint)


def _check_tokenizer(config: RunConfig) -> Iterator[Problem]:
    try:
        tokenizer = resolve_tokenizer(config.model, config.paths.models_root)
    except ConfigError as error:
        if config.model.tokenizer is not None or config.model.weights == RANDOM:
            yield Problem(error.message, "model.tokenizer", error.hint)
        return  # else it is the weights' own problem, and told with them
    if not isinstance(tokenizer, Path):
        return
    hint = "Give a folder with tokenizer.json, a .gguf file, or bytes."
    if not is_there(tokenizer):
        if config.model.tokenizer is not None:
            yield Problem(f"there is no tokenizer at {tokenizer}", "model.tokenizer, paths.models_root", hint)
    elif is_file(tokenizer):
        if not _starts_with(tokenizer, _GGUF_MAGIC) and config.model.tokenizer is not None:
            yield Problem(f"{tokenizer} is not a GGUF file that can be read", "model.tokenizer", hint)
    elif not any(is_file(tokenizer / name) for name in TOKENIZERS):
        yield Problem(f"{tokenizer} holds no tokenizer", "model.tokenizer", hint)


def _check_data(dataset: DatasetConfig) -> Iterator[Problem]:
    if dataset.blend is not None:
        yield from _check_blend(Path(dataset.blend))
    elif dataset.source is not None and dataset.sources:
        what = f"dataset {dataset.name} has both a source and sources"
        yield Problem(what, "dataset.source, dataset.sources", "Set one of them to null: sources are for several.")
    elif not dataset.named_sources:
        hint = "Name a datablend (BLEND_PATH), or a source that it is prepared from."
        yield Problem(f"dataset {dataset.name} has neither blend nor source", "dataset.blend, dataset.source", hint)
    else:
        for name, source in dataset.named_sources.items():
            yield from _check_source(source, "dataset.source" if dataset.source else f"dataset.sources {name}")


def _check_source(source: SourceConfig, section: str) -> Iterator[Problem]:
    key = f"{section}.paths"
    if source.kind == "hub":
        yield from _check_hub_source(source, section)
    elif source.kind in _FILE_SOURCES and not source.paths:
        yield Problem(f"the {source.kind} source has no paths", key, "Name its files or folders.")
    elif source.kind not in _FILE_SOURCES and source.paths:
        what = f"paths are not read by the source {source.kind}"
        yield Problem(what, key, "Leave them out, or set dataset.source.kind to text or jsonl.")
    for path in source.paths if source.kind in (*_FILE_SOURCES, "hub") else ():
        if not is_there(Path(path)):
            hint = "Correct the path; relative ones are from the working directory."
            yield Problem(f"there is no {source.kind} source at {path}", key, hint)


def _check_hub_source(source: SourceConfig, section: str) -> Iterator[Problem]:
    if source.repository is None or source.repository.count("/") != 1:
        what = f"the hub source's repository is {source.repository!r}"
        yield Problem(what, f"{section}.repository", "Name it as the hub does: owner/name.")
    if not source.splits:
        yield Problem("the hub source names no splits", f"{section}.splits", "Name them, such as [train].")


def _check_blend(path: Path) -> Iterator[Problem]:
    hint = "Name the JSON with train, valid and test (BLEND_PATH), or leave it out to have one prepared."
    try:
        splits: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        yield Problem(f"the datablend {path} cannot be read: {error.strerror}", "dataset.blend", hint)
        return
    except (ValueError, RecursionError) as error:
        yield Problem(f"the datablend {path} is not JSON: {error}", "dataset.blend", hint)
        return
    missing = [str(file) for prefix in _prefixes(splits) for file in _missing_token_files(path.parent, prefix)]
    if missing:
        what = f"the datablend {path} names files that are not there: {', '.join(missing)}"
        yield Problem(what, "dataset.blend", "Correct the prefixes (paths without .bin and .idx), or prepare again.")


def _prefixes(splits: object) -> list[str]:
    """Each prefix of each split, once; the form of the file is for its reader to judge."""
    found: list[str] = []
    for value in cast("dict[str, object]", splits).values() if isinstance(splits, dict) else ():
        items = value.split() if isinstance(value, str) else value
        found += [str(item) for item in cast("list[object]", items)[1::2]] if isinstance(items, list) else []
    return list(dict.fromkeys(found))


def _missing_token_files(folder: Path, prefix: str) -> list[Path]:
    """Files of a prefix that are neither below the working directory nor below the blend's folder."""
    here, beside = (
        [base / f"{prefix}{suffix}" for suffix in (".bin", ".idx") if not is_file(base / f"{prefix}{suffix}")]
        for base in (Path(), folder)
    )
    return beside if here else []


def _check_writable(key: str, folder: Path) -> Iterator[Problem]:
    existing = folder.absolute()
    while not is_there(existing):
        existing = existing.parent
    if not is_folder(existing):
        yield Problem(f"{folder} cannot be made: {existing} is a file", key, "Name a folder.")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Problem(f"{folder} cannot be written: no permission for {existing}", key, "Name a folder of yours.")


def _found(config: RunConfig, resolve: Callable[[ModelConfig, Path], Path | str]) -> Path | str | None:
    try:
        return resolve(config.model, config.paths.models_root)
    except ConfigError:
        return None  # told by `_check_weights`


def _starts_with(path: Path, magic: bytes) -> bool:
    """Whether a file can be read and begins so."""
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False
