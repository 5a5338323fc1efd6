"""Megatron's `GPTDataset`s of a datablend: packed sequences of tokens, labels shifted by one.

Owns the choices around megatron-core's builder: checks before it, a cache that is whole or absent,
and held-out blocks that depend neither on the training seed nor on when they are read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

from qad_core.data.blend import SPLITS, Blend, BlendEntry, Split, loss_mask_prefix, token_file_pair
from qad_core.data.token_file import TokenFile, check_token_file, check_token_ids
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

HELD_OUT_SEED = 42
"""Order of the valid and test blocks: fixed, so that runs with other training seeds are judged on the same text."""

PackedDataset = Sequence[dict[str, torch.Tensor]]
"""A `GPTDataset` or `BlendedDataset`, indexed from 0 to its length: each item holds `tokens`, `labels`,
`position_ids` (int64) and `loss_mask` (float32), each [s]."""


class GPTDatasets(NamedTuple):
    """The three splits; empty where no samples were asked for."""

    train: PackedDataset
    valid: PackedDataset
    test: PackedDataset


def build_gpt_datasets(
    blend: Blend,
    *,
    sequence_length: int,
    train_samples: int,
    valid_samples: int,
    test_samples: int,
    seed: int,
    tokenizer: Tokenizer,
    cache_dir: Path,
    masked: bool = False,
) -> GPTDatasets:
    """Build on every rank; rank 0 first, which writes the index files into `cache_dir`.

    Call it on all ranks of the process group, or without one. Each dataset has at least the samples
    asked for; training text is repeated where it is short, held-out text never is.
    With `masked`, the loss masks beside the token files (`blend.loss_mask_prefix`) say which labels count.
    Raises `DataError` with the numbers where a split has not one sequence, or held-out text is too
    short; and for token files that are not whole or were made with a larger vocabulary.
    """
    samples: dict[Split, int] = {"train": train_samples, "valid": valid_samples, "test": test_samples}
    files: dict[Split, list[TokenFile]] = {
        split: [check_token_file(entry.prefix) for entry in blend.split(split)] for split in SPLITS
    }
    for split in SPLITS:
        if samples[split]:
            check_split_size(split, blend.split(split), files[split], sequence_length, samples[split])
            for file in files[split]:
                check_token_ids(file, tokenizer.vocab_size)

    def build(of: Blend) -> GPTDatasets:
        train = _build(of, [train_samples, 0, 0], sequence_length, seed, tokenizer, cache_dir)
        held_out = _build(of, [0, valid_samples, test_samples], sequence_length, HELD_OUT_SEED, tokenizer, cache_dir)
        return GPTDatasets(train.train, held_out.valid, held_out.test)

    if not masked:
        return build(blend)
    # The order of samples follows from lengths, weights and seed, which both have in common.
    masks = build(_blend_of_masks(blend, files))
    return GPTDatasets(*map(MaskedDataset, build(blend), masks))


class MaskedDataset(Sequence[dict[str, torch.Tensor]]):
    """Samples whose loss mask is that of another dataset's labels, which are 1 where the label counts and else 0."""

    def __init__(self, samples: PackedDataset, masks: PackedDataset) -> None:
        self._samples = samples
        self._masks = masks

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        """One sample, as `PackedDataset` has it."""
        sample = self._samples[index]
        return {**sample, "loss_mask": sample["loss_mask"] * self._masks[index]["labels"]}


def _blend_of_masks(blend: Blend, files: Mapping[Split, list[TokenFile]]) -> Blend:
    """The blend with each file's loss mask in its place; `DataError` where one is not there or of other tokens."""
    for file in (file for split in SPLITS for file in files[split]):
        prefix = loss_mask_prefix(file.prefix)
        if not token_file_pair(prefix)[1].exists() or check_token_file(prefix).tokens != file.tokens:
            raise DataError(
                f"{file.prefix} has no loss mask of its {file.tokens:,} tokens beside it",
                "Prepare the data again, or set dataset.answer_loss_only to false.",
            )
    entries = {
        split: tuple(BlendEntry(entry.weight, loss_mask_prefix(entry.prefix)) for entry in blend.split(split))
        for split in SPLITS
    }
    return Blend(**entries)


def check_split_size(
    split: Split, entries: tuple[BlendEntry, ...], files: list[TokenFile], sequence_length: int, samples: int
) -> None:
    """Raise `DataError` when the token files cannot give the samples: one sequence each, held-out ones all."""
    if not entries:
        raise DataError(
            f"{samples:,} {split} samples are asked for, but the datablend has no {split} data", "Add some."
        )
    total = sum(entry.weight for entry in entries)
    for entry, file in zip(entries, files, strict=True):
        # The builder's own surplus, so that a blend of several files is judged as it will be drawn.
        asked = samples if len(entries) == 1 else math.ceil(math.ceil(samples * entry.weight / total) * (1 + SURPLUS))
        there = max(file.tokens - 1, 0) // sequence_length
        needed = 1 if split == "train" else asked
        if there < needed:
            raise DataError(
                f"{split} text {file.prefix} has {file.tokens:,} tokens, {there:,} sequences of {sequence_length:,}, "
                f"where {needed:,} are needed (one token more each file, for the labels)",
                "Give more text, a shorter train.sequence_length, "
                + ("or another blend." if split == "train" else f"a larger {split}_fraction, or fewer sequences."),
            )


SURPLUS = 0.005
"""Share that megatron-core builds beyond what a blend of several files draws (its default)."""


class _BuilderTokenizer:
    """What megatron-core's datasets ask of a tokenizer.

    It has no `pad`: packed sequences hold no padding, and with a `pad` Megatron would mask that token
    out of real text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self.eod = -1 if tokenizer.eod_id is None else tokenizer.eod_id
        self.unique_identifiers = OrderedDict(eod=self.eod, vocab_size=self.vocab_size)


def _build(
    blend: Blend, sizes: list[int], sequence_length: int, seed: int, tokenizer: Tokenizer, cache_dir: Path
) -> GPTDatasets:
    """`sizes` are the samples of train, valid and test; 0 leaves a split out."""
    if not any(sizes):
        return GPTDatasets((), (), ())
    config = GPTDatasetConfig(
        random_seed=seed,
        sequence_length=sequence_length,
        blend_per_split=[
            _megatron_blend(blend.split(split)) if size else None for split, size in zip(SPLITS, sizes, strict=True)
        ],
        tokenizer=cast("Any", _BuilderTokenizer(tokenizer)),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        mid_level_dataset_surplus=SURPLUS,
    )
    with _process_group(), _index_cache(cache_dir / _cache_key(config, sizes)) as cache:
        config.path_to_cache = str(cache)
        builder = BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config)
        datasets = builder.build()
    return GPTDatasets(*(() if dataset is None else cast("PackedDataset", dataset) for dataset in datasets))


def _megatron_blend(entries: tuple[BlendEntry, ...]) -> tuple[list[str], list[float]]:
    return [str(entry.prefix) for entry in entries], [entry.weight for entry in entries]


def _cache_key(config: GPTDatasetConfig, sizes: list[int]) -> str:
    """Hash of the request and of the token files' states: Megatron's own keys know a path, not what it holds."""
    blends = [blend for blend in config.blend_per_split or [] if blend is not None]
    states = [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for prefixes, _ in blends
        for prefix in prefixes
        for file in token_file_pair(Path(prefix))
    ]
    tokenizer = cast("_BuilderTokenizer", config.tokenizer).unique_identifiers
    facts = [config.random_seed, config.sequence_length, config.blend_per_split, sizes, states, tokenizer]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@contextmanager
def _process_group() -> Iterator[None]:
    """A group of one for the block, where there is none: `BlendedDataset` asks for its rank in any case."""
    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _index_cache(final: Path) -> Iterator[Path]:
    """The folder of Megatron's index files, on all ranks: `final` where it is whole, else a new one that becomes it.

    Megatron takes an index file that is there for whole, and a process killed while writing leaves a part of
    one. So rank 0 chooses another name, and renames the folder when all ranks have opened their files.
    """
    is_first = dist.get_rank() == 0
    chosen = [str(final if final.exists() else final.with_name(f"{final.name}.{uuid.uuid4().hex}.partial"))]
    dist.broadcast_object_list(chosen, src=0)
    folder = Path(chosen[0])
    if is_first and folder != final:
        folder.mkdir(parents=True)
    dist.barrier()
    yield folder
    dist.barrier()
    if is_first and folder != final:
        if final.exists():  # another run was quicker with the same files
            shutil.rmtree(folder)
        else:
            os.replace(folder, final)
