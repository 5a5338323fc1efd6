"""Writes a Megatron `torch_dist` checkpoint out of named Hugging Face tensors or states of layers, one at a time.

Owns the layout of what our models save: layers one by one, query, key and value rows interleaved by group, gate and up
apart, the experts of a layer stacked in parts of one expert. torch.distributed.checkpoint's own writer keeps all
tensors of a file until the file is done, which for a model of 30B parameters is more than a host may have; so the
file's few structures are written here. When a checkpoint counts as whole is `train/checkpoint.py`'s.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from megatron.core.dist_checkpointing.core import CheckpointingConfig, save_config
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories
from torch import Tensor
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from qad_core.config.megatron_folder import METADATA
from qad_core.config.schema import ArchitectureConfig
from qad_core.models.hf_tensors import EMBEDDING, OUTPUT, ROUTER, Shape, expert_prefix, layer_prefix
from qad_core.models.megatron_names import EXPERT_LINEARS, LAYER_NAMES, LINEARS, NAMES
from qad_core.models.query_key_value import join_query_key_value
from qad_core.models.saving import explained_disk
from qad_core.models.tensor_sources import TensorSource, read_finite

CONTENT = {"singleton_local_shards": True}
"""megatron-core's word, kept in the checkpoint, for the names that are written: one a layer, gate and up apart."""
_DATA = "__0_0.distcp"
_SPACE_HINT = "Free disk space, or name a folder on another disk."


class Piece(NamedTuple):
    """A part of a tensor that is read and written at once."""

    key: str
    size: Shape
    """Of the whole tensor."""
    first: tuple[int, ...]
    """Where the piece begins in it."""
    shape: Shape
    read: Callable[[], Tensor]


def write_weights(source: TensorSource, architecture: ArchitectureConfig, folder: Path, vocab_rows: int) -> int:
    """Write the weights into an empty folder in the dtypes of the source; returns their bytes.

    The vocabulary is padded to `vocab_rows` rows with zeros. Memory holds one tensor of the source, or a layer's
    query, key and value. Raises ModelError for a tensor with NaN or infinite numbers, OutsideError where the disk does
    not take them.
    """
    with open_writer(folder) as writer:
        writer.add_outside_layers(source, architecture, vocab_rows)
        for layer in range(architecture.num_layers):
            for piece in _list_layer(f"decoder.layers.{layer}.", layer_prefix(layer), source, architecture):
                writer.add(piece)
        for key in _list_extra_states(architecture):
            writer.add_object(key, None)
    return writer.written


@contextmanager
def open_writer(folder: Path) -> Generator[CheckpointWriter]:
    """Yield a writer into an empty folder, whose checkpoint is whole once the block has ended.

    Raises OutsideError where the disk does not take it.
    """
    file = (folder / _DATA).open("wb")
    try:
        writer = CheckpointWriter(folder, file)
        yield writer
        with explained_disk(folder, _SPACE_HINT):
            _flush(file)
            _write_metadata(folder, writer.metadata())
    finally:
        with suppress(OSError):  # what could not be written fails here once more; all else is flushed
            file.close()


class CheckpointWriter:
    """Appends tensors and objects to a checkpoint's one file of data, and remembers what is where."""

    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self.written = 0
        """Bytes of tensors."""
        self._folder, self._file = folder, file
        self._tensors: dict[str, TensorStorageMetadata] = {}
        self._objects: dict[str, BytesStorageMetadata] = {}
        self._places: dict[MetadataIndex, _StorageInfo] = {}

    def add(self, piece: Piece) -> None:
        """Read a piece of a tensor and write it."""
        tensor = piece.read().reshape(piece.shape)
        whole = TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), torch.Size(piece.size), [])
        chunk = ChunkStorageMetadata(torch.Size(piece.first), torch.Size(piece.shape))
        self._tensors.setdefault(piece.key, whole).chunks.append(chunk)
        place = self._append(tensor.clone() if _is_a_part(tensor) else tensor)
        self._places[MetadataIndex(piece.key, chunk.offsets)] = place
        self.written += tensor.nbytes

    def add_object(self, key: str, value: Any) -> None:
        """Write what is no tensor, as megatron-core does: in a list."""
        self._objects[key] = BytesStorageMetadata()
        self._places[MetadataIndex(key)] = self._append([value])

    def add_state(self, state: dict[str, Any]) -> None:
        """Write a sharded state dict of megatron-core's, from a model that is whole on this rank."""
        apply_factories(state)
        for entry in nested_values(state):
            if isinstance(entry, ShardedTensor):
                data: Any = entry.data
                shape = (*(1 for _ in range(entry.prepend_axis_num)), *data.shape)
                self.add(Piece(entry.key, entry.global_shape, entry.global_offset, shape, data.detach().cpu))
            else:
                self.add_object(entry.unique_key, entry.data)

    def add_outside_layers(self, source: TensorSource, architecture: ArchitectureConfig, vocab_rows: int) -> None:
        """Write embedding, last norm and head; raises as `write_weights`."""
        for key, name in NAMES.items():
            if name == OUTPUT and architecture.tie_word_embeddings:
                continue
            if name in (EMBEDDING, OUTPUT):
                for piece in _list_vocabulary(key, name, source, vocab_rows):
                    self.add(piece)
            else:
                self.add(_whole(key, name, source))

    def metadata(self) -> Metadata:
        """Where everything is."""
        return Metadata(
            {**self._tensors, **self._objects},
            storage_data=self._places,
            storage_meta=StorageMeta(),
            version=CURRENT_DCP_VERSION,
        )

    def _append(self, value: Tensor | list[Any]) -> _StorageInfo:
        offset = self._file.tell()
        with explained_disk(self._folder, _SPACE_HINT):
            try:
                torch.save(value, self._file)
            except RuntimeError as error:  # torch's archive ends itself after a failed write, and complains of that
                if isinstance(error.__context__, OSError | KeyboardInterrupt):
                    raise error.__context__ from None
                raise
        return _StorageInfo(_DATA, offset, self._file.tell() - offset)


def _is_a_part(tensor: Tensor) -> bool:
    """Whether torch would save more than the tensor's own numbers, or in another order."""
    return tensor.untyped_storage().nbytes() != tensor.nbytes or not tensor.is_contiguous()


def _write_metadata(folder: Path, metadata: Metadata) -> None:
    torch.save({"iteration": 0, "checkpoint_version": 3.0, "content_metadata": CONTENT}, folder / "common.pt")
    save_config(CheckpointingConfig("torch_dist"), str(folder))
    with (folder / METADATA).open("wb") as file:
        pickle.dump(metadata, file)
        _flush(file)


def _flush(file: io.BufferedWriter | IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _whole(key: str, name: str, source: TensorSource) -> Piece:
    shape = source.shapes[name]
    return Piece(key, shape, (0,) * len(shape), shape, partial(read_finite, source, name))


def _list_vocabulary(key: str, name: str, source: TensorSource, vocab_rows: int) -> Iterator[Piece]:
    rows, width = source.shapes[name]
    size, dtypes = (vocab_rows, width), list[torch.dtype]()

    def read() -> Tensor:
        tensor = read_finite(source, name)
        dtypes.append(tensor.dtype)
        return tensor

    yield Piece(key, size, (0, 0), (rows, width), read)
    if vocab_rows > rows:
        padding = (vocab_rows - rows, width)
        yield Piece(key, size, (rows, 0), padding, lambda: torch.zeros(padding, dtype=dtypes[0], device="cpu"))


def _list_layer(key: str, name: str, source: TensorSource, architecture: ArchitectureConfig) -> Iterator[Piece]:
    projections = [f"{name}self_attn.{kind}_proj.weight" for kind in "qkv"]
    shape = sum(source.shapes[one][0] for one in projections), architecture.hidden_size
    read = partial(_read_projections, source, projections, architecture.num_query_groups)
    yield Piece(f"{key}self_attention.linear_qkv.weight", shape, (0, 0), shape, read)
    for ours, theirs in LAYER_NAMES.items():
        if name + theirs in source.shapes:
            yield _whole(key + ours, name + theirs, source)
    if name + ROUTER in source.shapes:
        for expert in range(architecture.num_moe_experts or 0):
            yield from _list_expert(key, expert, name + expert_prefix(expert), source, architecture)


def _read_projections(source: TensorSource, names: list[str], groups: int) -> Tensor:
    """[(heads + 2 * groups) * d, h]: each group's queries, then its key, then its value."""
    return join_query_key_value([read_finite(source, name) for name in names], groups)


def _list_expert(
    key: str, expert: int, name: str, source: TensorSource, architecture: ArchitectureConfig
) -> Iterator[Piece]:
    """[experts, 2, ffn, h] and [experts, h, ffn], as `GroupedExperts` has them."""
    experts = architecture.num_moe_experts or 0
    first, second = (f"{key}{linear}.weight" for linear in EXPERT_LINEARS)
    for index, kind in enumerate(("gate", "up")):
        one = f"{name}{kind}_proj.weight"
        shape = source.shapes[one]
        yield Piece(
            first, (experts, 2, *shape), (expert, index, 0, 0), (1, 1, *shape), partial(read_finite, source, one)
        )
    one = f"{name}down_proj.weight"
    shape = source.shapes[one]
    yield Piece(second, (experts, *shape), (expert, 0, 0), (1, *shape), partial(read_finite, source, one))


def _list_extra_states(architecture: ArchitectureConfig) -> Iterator[str]:
    linears = LINEARS if architecture.num_moe_experts is None else (*LINEARS[:2], *EXPERT_LINEARS)
    for layer in range(architecture.num_layers):
        yield from (f"decoder.layers.{layer}.{linear}._extra_state/shard_0_1" for linear in linears)
