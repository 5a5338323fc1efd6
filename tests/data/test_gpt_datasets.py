from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.data.blend import Blend, BlendEntry, read_blend
from qad_core.data.gpt_datasets import GPTDatasets, build_gpt_datasets
from qad_core.data.prepare import prepare_dataset
from qad_core.data.token_file import TokenFileWriter, token_dtype
from qad_core.errors import DataError
from qad_core.models.tokenizer import BytesTokenizer
from tests.ranks import run_on_ranks

SEQUENCE_LENGTH = 64


def build(blend: Blend, cache_dir: Path, **settings: Any) -> GPTDatasets:
    defaults: dict[str, Any] = {"train_samples": 100, "valid_samples": 10, "test_samples": 0, "seed": 1234}
    return build_gpt_datasets(
        blend, sequence_length=SEQUENCE_LENGTH, tokenizer=BytesTokenizer(), cache_dir=cache_dir, **(defaults | settings)
    )


def read_tokens(dataset: Any, samples: int) -> list[list[int]]:
    return [dataset[index]["tokens"].tolist() for index in range(samples)]


def write_tokens(prefix: Path, tokens: int) -> Path:
    writer = TokenFileWriter(prefix, token_dtype(257))
    writer.add_documents(np.random.default_rng(0).integers(0, 256, tokens, dtype=np.int32), np.array([tokens]))
    writer.close()
    return prefix


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Blend:
    source = SourceConfig(kind="made", max_characters=30_000)
    dataset = DatasetConfig(name="made", source=source, valid_fraction=0.2, test_fraction=0.2)
    out = tmp_path_factory.mktemp("data") / "made"
    return read_blend(prepare_dataset(dataset, BytesTokenizer(), out, processes=1).blend_path)


def test_samples_are_sequences_with_labels_shifted_by_one_and_nothing_masked(blend: Blend, tmp_path: Path) -> None:
    train, valid, test = build(blend, tmp_path, train_samples=1000)
    assert len(train) >= 1000 and len(valid) >= 10 and len(test) == 0
    for index in (0, 999):
        sample = train[index]
        assert sample["tokens"].shape == sample["labels"].shape == (SEQUENCE_LENGTH,)
        assert sample["tokens"][1:].tolist() == sample["labels"][:-1].tolist()
        assert sample["loss_mask"].tolist() == [1.0] * SEQUENCE_LENGTH
        assert sample["position_ids"].tolist() == list(range(SEQUENCE_LENGTH))
        assert "attention_mask" not in sample


def test_end_of_document_tokens_are_trained_on(blend: Blend, tmp_path: Path) -> None:
    train = build(blend, tmp_path).train
    samples = [train[index] for index in range(100)]
    ends = [sample["loss_mask"][sample["labels"] == 256] for sample in samples]
    assert sum(len(end) for end in ends) > 0 and all(bool(end.all()) for end in ends)


def test_held_out_blocks_are_the_same_for_every_training_seed_and_length(blend: Blend, tmp_path: Path) -> None:
    first = build(blend, tmp_path / "a", seed=1, train_samples=20)
    second = build(blend, tmp_path / "b", seed=2, train_samples=500)
    assert read_tokens(first.valid, 10) == read_tokens(second.valid, 10) == read_tokens(first.valid, 10)
    assert read_tokens(first.train, 10) != read_tokens(second.train, 10)


def test_a_second_build_reads_the_cache_and_gives_the_same(blend: Blend, tmp_path: Path) -> None:
    first = read_tokens(build(blend, tmp_path).train, 100)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert read_tokens(build(blend, tmp_path).train, 100) == first
    assert files and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == files


def test_a_cache_is_not_used_for_token_files_that_were_replaced(tmp_path: Path) -> None:
    prefix = write_tokens(tmp_path / "tokens", 10_000)
    blend = Blend(train=(BlendEntry(1.0, prefix),), valid=(), test=())
    build(blend, tmp_path / "cache", valid_samples=0, train_samples=150)
    write_tokens(prefix, 100)
    train = build(blend, tmp_path / "cache", valid_samples=0, train_samples=150).train
    assert len(read_tokens(train, 150)) == 150


def test_a_blend_of_several_files_draws_by_weight(tmp_path: Path) -> None:
    prefixes = [write_tokens(tmp_path / name, 5_000) for name in "ab"]
    entries = (BlendEntry(3.0, prefixes[0]), BlendEntry(1.0, prefixes[1]))
    datasets = build(Blend(entries, entries, ()), tmp_path / "cache", valid_samples=8, train_samples=100)
    assert not dist.is_initialized()
    drawn: Any = datasets.train
    origins = [int(drawn[index]["dataset_id"]) for index in range(100)]
    assert origins.count(0) == 75 and origins.count(1) == 25


@pytest.mark.parametrize(("tokens", "enough"), [(SEQUENCE_LENGTH, False), (SEQUENCE_LENGTH + 1, True)])
def test_a_corpus_too_small_for_one_sequence_is_refused_with_the_numbers(
    tmp_path: Path, tokens: int, enough: bool
) -> None:
    blend = Blend(train=(BlendEntry(1.0, write_tokens(tmp_path / "tokens", tokens)),), valid=(), test=())
    if enough:
        assert build(blend, tmp_path / "cache", valid_samples=0, train_samples=3).train[2]["tokens"].numel() == 64
        return
    with pytest.raises(DataError, match=r"train text .* has 64 tokens, 0 sequences of 64, where 1 are needed"):
        build(blend, tmp_path / "cache", valid_samples=0)


def test_held_out_text_is_never_repeated(tmp_path: Path) -> None:
    entry = BlendEntry(1.0, write_tokens(tmp_path / "tokens", 5 * SEQUENCE_LENGTH + 1))
    blend = Blend(train=(entry,), valid=(entry,), test=())
    valid = build(blend, tmp_path / "cache", valid_samples=5).valid
    assert len({tuple(tokens) for tokens in read_tokens(valid, 5)}) == 5
    with pytest.raises(DataError, match=r"valid text .* 5 sequences of 64, where 6 are needed"):
        build(blend, tmp_path / "cache", valid_samples=6)


def test_a_split_that_the_blend_lacks_is_refused(blend: Blend, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10 valid samples are asked for, but the datablend has no valid data"):
        build(replace(blend, valid=()), tmp_path)


def test_tokens_of_another_tokenizer_are_refused(blend: Blend, tmp_path: Path) -> None:
    class Ascii(BytesTokenizer):
        vocab_size = 100
        eod_id = 99

    with pytest.raises(DataError, match="vocabulary ends at 99"):
        build_gpt_datasets(
            blend,
            sequence_length=SEQUENCE_LENGTH,
            train_samples=1,
            valid_samples=0,
            test_samples=0,
            seed=1,
            tokenizer=Ascii(),
            cache_dir=tmp_path,
        )


def build_on_rank(blend: Blend, cache_dir: Path) -> list[list[int]]:
    dist.init_process_group("gloo")
    datasets = build(blend, cache_dir, train_samples=50)
    tokens = read_tokens(datasets.train, 50) + read_tokens(datasets.valid, 10)
    dist.destroy_process_group()
    return tokens


def test_every_rank_sees_the_samples_of_a_lone_process_and_the_cache_is_whole(blend: Blend, tmp_path: Path) -> None:
    first, second = run_on_ranks(build_on_rank, 2, blend, tmp_path / "ranks")
    alone = build(blend, tmp_path / "alone", train_samples=50)
    assert first == second == read_tokens(alone.train, 50) + read_tokens(alone.valid, 10)
    assert not list((tmp_path / "ranks").glob("*.partial"))
