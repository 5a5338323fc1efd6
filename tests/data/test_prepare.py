from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.data import partial_folder
from qad_core.data.blend import SPLITS, Split, read_blend
from qad_core.data.documents import digest_text, make_table
from qad_core.data.manifest import fingerprint_tokenizer
from qad_core.data.partial_folder import hold_work
from qad_core.data.prepare import PreparedDataset, prepare_dataset
from qad_core.data.split import find_repeats, split_documents
from qad_core.errors import DataError
from qad_core.models.tokenizer import BytesTokenizer, Tokenizer

PREPARE_WITHOUT_END = """
import sys
from pathlib import Path
from qad_core.config.schema import DatasetConfig, WeightedSource
from qad_core.data.prepare import prepare_dataset
from qad_core.models.tokenizer import BytesTokenizer

source = WeightedSource(kind="made", max_characters=10**12, weight=1.0)
dataset = DatasetConfig(name="made", sources={"one": source, "two": source})
prepare_dataset(dataset, BytesTokenizer(), Path(sys.argv[1]), processes=2)
"""


def prepare(dataset: DatasetConfig, tokenizer: Tokenizer, out_dir: Path) -> PreparedDataset:
    return prepare_dataset(dataset, tokenizer, out_dir, processes=1)


def read_texts(prepared: PreparedDataset, tokenizer: Tokenizer) -> dict[str, list[str]]:
    """Every split's documents, decoded from the token files that the datablend names."""
    blend = read_blend(prepared.blend_path)
    texts: dict[str, list[str]] = {}
    for split in SPLITS:
        files: list[Any] = [IndexedDataset(str(entry.prefix)) for entry in blend.split(split)]
        texts[split] = [tokenizer.decode(file[i][:-1].tolist()) for file in files for i in range(len(file))]
    return texts


def jsonl_dataset(path: Path, texts: list[str], **settings: float) -> DatasetConfig:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = SourceConfig(kind="jsonl", paths=(str(path),))
    return DatasetConfig.model_validate({"name": "lines", "source": source, **settings})


def test_every_document_is_in_exactly_one_split_also_where_it_stands_twice(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    texts = [f"document {number}" for number in range(200)]
    dataset = jsonl_dataset(tmp_path / "l.jsonl", texts * 2 + ["", " \n"], valid_fraction=0.25, test_fraction=0.25)
    prepared = prepare(dataset, tokenizer, tmp_path / "out")
    found = read_texts(prepared, tokenizer)
    assert sorted(found["train"] + found["valid"] + found["test"]) == sorted(texts)
    assert all(len(found[split]) > 20 for split in SPLITS)
    counts = prepared.manifest.sources["lines"]
    assert (counts.duplicate_documents, counts.empty_documents) == (200, 2)


def split_of_each(dataset: DatasetConfig, texts: list[str], small_corpus_characters: int) -> dict[str, Split]:
    digests = [digest_text(text, dataset.split_seed) for text in texts]
    table = make_table(digests, [1] * len(texts), list(map(len, texts)))
    none = np.zeros(len(texts), dtype=bool)
    (splits,) = split_documents([table], [none], dataset, small_corpus_characters)
    return {text: SPLITS[split] for text, split in zip(texts, splits, strict=True)}


def test_repeats_are_found_over_tables_however_few_documents_are_sorted_at_once() -> None:
    generator = np.random.default_rng(0)
    texts = [[f"{number}" for number in generator.integers(0, 300, size)] for size in (0, 200, 1, 300)]
    tables = [make_table([digest_text(text, 42) for text in of_table], 1, 1) for of_table in texts]  # pyright: ignore[reportArgumentType]
    seen: set[str] = set()
    expected = [[text in seen or bool(seen.add(text)) for text in of_table] for of_table in texts]
    for at_a_time in (7, 10**6):
        assert [flags.tolist() for flags in find_repeats(tables, at_a_time)] == expected


def test_in_a_large_corpus_a_document_keeps_its_split_whatever_else_is_there() -> None:
    dataset = DatasetConfig(name="d", valid_fraction=0.3, test_fraction=0.3)
    texts = [f"document {number}" for number in range(200)]
    alone = split_of_each(dataset, texts, 0)
    amid = split_of_each(dataset, [f"other {number}" for number in range(50)] + texts[::-1], 0)
    assert {text: amid[text] for text in texts} == alone
    assert all(40 < list(alone.values()).count(split) < 100 for split in SPLITS)
    assert split_of_each(dataset.model_copy(update={"split_seed": 7}), texts, 0) != alone


def test_in_a_small_corpus_held_out_splits_get_their_share_of_the_characters() -> None:
    texts = [f"{number} " + "x" * (100 * number) for number in range(40)] + ["y" * 50_000]
    total = sum(map(len, texts))
    for seed in range(20):
        dataset = DatasetConfig(name="d", valid_fraction=0.05, test_fraction=0.03, split_seed=seed)
        splits = split_of_each(dataset, texts, 10**6)
        assert splits == split_of_each(dataset, texts[::-1], 10**6)
        held = {split: sum(len(text) for text in texts if splits[text] == split) / total for split in SPLITS}
        assert 0.05 <= held["valid"] < 0.1 and 0.03 <= held["test"] < 0.06


def test_two_prepares_give_the_same_files_and_the_manifest_says_what_they_hold(
    tmp_path: Path, tokenizer: Tokenizer, made_dataset: DatasetConfig
) -> None:
    first = prepare(made_dataset, tokenizer, tmp_path / "one")
    second = prepare(made_dataset, tokenizer, tmp_path / "two")
    assert first.counts == second.counts
    assert not first.reused and not second.reused
    texts = read_texts(first, tokenizer)
    for split, counts in first.counts.items():
        assert counts.documents == len(texts[split])
        assert counts.characters == sum(map(len, texts[split]))
        assert counts.tokens == sum(len(tokenizer.encode(text)) + 1 for text in texts[split])
    hashes = {counts.bin_sha256 for counts in first.manifest.sources["made"].splits.values()}
    assert len(hashes) == 3 and all(len(value) == 64 for value in hashes)
    assert "megatron-core" in first.manifest.versions


def test_what_is_prepared_is_reused_until_the_text_or_the_tokens_change(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"document {number}" for number in range(100)]
    dataset = jsonl_dataset(tmp_path / "l.jsonl", texts, valid_fraction=0.2, test_fraction=0.2)
    out = tmp_path / "out"
    assert not prepare(dataset, tokenizer, out).reused
    assert prepare(dataset, tokenizer, out).reused
    dataset = jsonl_dataset(tmp_path / "l.jsonl", [*texts, "one more"], valid_fraction=0.2, test_fraction=0.2)
    again = prepare(dataset, tokenizer, out)
    assert not again.reused and sum(counts.documents for counts in again.counts.values()) == 101
    token_file = next(out.glob("*train*.bin"))
    token_file.write_bytes(token_file.read_bytes()[:-2])
    assert not prepare(dataset, tokenizer, out).reused
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.jsonl", "out"]


def test_a_corpus_too_small_to_split_is_refused_with_the_numbers(tmp_path: Path, tokenizer: Tokenizer) -> None:
    dataset = jsonl_dataset(tmp_path / "l.jsonl", ["only one"])
    with pytest.raises(DataError, match=r"no document fell to valid and test \(documents: train 1, valid 0, test 0\)"):
        prepare(dataset, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_keeps_what_is_done_and_other_fractions_and_weights_go_on_with_it(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    lines = {name: jsonl_dataset(tmp_path / name, [name]).source for name in ("a", "b")}

    def two(weight: float, **fractions: float) -> DatasetConfig:
        weighted = {name: {**source.model_dump(), "weight": weight} for name, source in lines.items() if source}
        return DatasetConfig.model_validate({"name": "two", "sources": weighted, **fractions})

    with pytest.raises(DataError, match="too small"):
        prepare(two(1.0), tokenizer, tmp_path / "one")
    told: list[str] = []
    changed = two(2.0, valid_fraction=0.0, test_fraction=0.0)
    prepare_dataset(changed, tokenizer, tmp_path / "other", processes=1, tell=told.append)
    assert told == ["  going on: 2 of 2 pieces are there"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "other"]


def test_work_that_became_a_dataset_is_removed_when_its_process_was_killed_and_other_work_stays(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"document {number}" for number in range(100)]
    dataset = jsonl_dataset(tmp_path / "l.jsonl", texts, valid_fraction=0.2, test_fraction=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(partial_folder, "_remove_finished", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, tokenizer, tmp_path / "out")
    (work,) = tmp_path.glob(".*.partial")
    shutil.copytree(work, tmp_path / "saved")
    assert prepare(dataset, tokenizer, tmp_path / "out").reused
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "saved").rename(work)
    (work / "finished").write_text("another")
    assert prepare(dataset, tokenizer, tmp_path / "out").reused
    assert work.exists()


def test_a_source_without_a_document_is_too_small_too(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for texts in ([], [""]):
        dataset = jsonl_dataset(tmp_path / "l.jsonl", texts)
        with pytest.raises(DataError, match=r"documents: train 0, valid 0, test 0"):
            prepare(dataset, tokenizer, tmp_path / "out")


def test_a_split_with_fraction_0_is_an_empty_list_in_the_datablend(tmp_path: Path, tokenizer: Tokenizer) -> None:
    dataset = jsonl_dataset(tmp_path / "l.jsonl", ["a", "b"], valid_fraction=0.0, test_fraction=0.0)
    blend = read_blend(prepare(dataset, tokenizer, tmp_path / "out").blend_path)
    assert (len(blend.train), blend.valid, blend.test) == (1, (), ())


def test_a_failed_prepare_keeps_the_dataset_that_was_there(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"document {number}" for number in range(100)]
    dataset = jsonl_dataset(tmp_path / "l.jsonl", texts, valid_fraction=0.2, test_fraction=0.2)
    before = prepare(dataset, tokenizer, tmp_path / "out")
    with (tmp_path / "l.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"l\.jsonl, line 101"):
        prepare(dataset, tokenizer, tmp_path / "out")
    assert len(read_texts(before, tokenizer)["train"]) == before.counts["train"].documents


def test_a_killed_prepare_leaves_no_dataset_and_no_worker_and_half_units_go_at_the_next_start(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", PREPARE_WITHOUT_END, str(out)], start_new_session=True)
    wait_until(lambda: sum(file.stat().st_size > 100_000 for file in tmp_path.glob(".*/units/*.tokens.*")) == 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".partial"]
    wait_until(lambda: not group_is_alive(process.pid))
    (work,) = tmp_path.glob(".*.partial")
    assert len(list(work.glob("units/*"))) == 2
    with hold_work(work, print):
        assert sorted(path.name for path in work.rglob("*")) == ["key", "units"]


def test_a_changed_chat_template_is_another_tokenizer() -> None:
    class Chats(BytesTokenizer):
        def __init__(self, template: str) -> None:
            self.template = template

        def apply_chat_template(self, messages: Any, *, add_generation_prompt: bool = False) -> str:
            return "".join(self.template.format(**message) for message in messages)

    one, two = Chats("<{role}>{content}"), Chats("[{role}]{content}")
    assert fingerprint_tokenizer(one) == fingerprint_tokenizer(Chats(one.template)) != fingerprint_tokenizer(two)
    assert len({fingerprint_tokenizer(tokenizer) for tokenizer in (one, two, BytesTokenizer())}) == 3


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_is_alive(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and waits for its parent does not."""
    members = [process for process in psutil.process_iter() if _is_member(process, group)]
    return any(process.status() != psutil.STATUS_ZOMBIE for process in members)


def _is_member(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group
    except ProcessLookupError:
        return False
