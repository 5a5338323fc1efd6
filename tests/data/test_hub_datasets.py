from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from qad_core.config.conf_samples import SCRIPT_SAMPLES
from qad_core.config.data_paths import prepared_blend_path
from qad_core.config.load import load_experiment
from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig, SourceConfig
from qad_core.data import sources
from qad_core.data.blend import SPLITS, Blend, read_blend
from qad_core.data.gpt_datasets import build_gpt_datasets
from qad_core.data.prepare import PreparedDataset, prepare_dataset
from qad_core.data.unit_maker import UnitMaker
from qad_core.errors import DataError, OutsideError
from qad_core.models.tokenizer import BytesTokenizer
from tests.data.hub_records import SUBJECTS, V2, nemotron_record, write_hub_copy, write_jsonl, write_parquet

RECORDS = 400


class ChatBytesTokenizer(BytesTokenizer):
    """One token a byte, and a chat template that is easy to read."""

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        return f"{text}<assistant>" if add_generation_prompt else text


@pytest.fixture(scope="module")
def hub_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    write_hub_copy(folder, RECORDS)
    return folder


def shipped(name: str, paths: Sequence[Path] = ()) -> DatasetConfig:
    """A dataset of configs/datasets, read from copies."""
    dataset = load_experiment("blank", ["model=tiny", f"dataset={name}"], {}).config.dataset
    copies = {"paths": tuple(map(str, paths))}
    return dataset.model_copy(
        update={
            "source": dataset.source and dataset.source.model_copy(update=copies),
            "sources": {name: source.model_copy(update=copies) for name, source in dataset.sources.items()},
        }
    )


def lines_dataset(path: Path, **settings: Any) -> DatasetConfig:
    source = SourceConfig.model_validate({"kind": "jsonl", "paths": (str(path),), **settings})
    return DatasetConfig(name="lines", source=source, valid_fraction=0.1, test_fraction=0.1)


def prepare(dataset: DatasetConfig, out: Path, processes: int = 1, tell: Any = print) -> PreparedDataset:
    return prepare_dataset(dataset, ChatBytesTokenizer(), out, processes=processes, tell=tell)


def read_texts(prepared: PreparedDataset) -> dict[str, list[str]]:
    """Source -> every document of its token files, over all splits."""
    blend, texts = read_blend(prepared.blend_path), {}
    for split in SPLITS:
        for entry in blend.split(split):
            file: Any = IndexedDataset(str(entry.prefix))
            source = entry.prefix.name.removesuffix(f"_{split}_text_document")
            texts.setdefault(source, []).extend(ChatBytesTokenizer().decode(file[i][:-1]) for i in range(len(file)))
    return texts


def file_hashes(prepared: PreparedDataset) -> list[str]:
    sources = prepared.manifest.sources.values()
    return [split.bin_sha256 + split.idx_sha256 for source in sources for split in source.splits.values()]


@pytest.mark.parametrize("name", SCRIPT_SAMPLES)
def test_every_name_of_the_scripts_is_a_dataset_that_does_what_the_name_says(name: str) -> None:
    dataset = shipped(name)
    assert dataset.name == name
    assert all(source.kind == "hub" and source.splits for source in dataset.named_sources.values())
    nemotron = [source for key, source in dataset.named_sources.items() if "Nemotron" in (source.repository or "")]
    # The scripts' own traps: a chat split is no template, and these stood for their longer names.
    short_for_cot_chat = name.startswith("nemotron_v1_") or name == "combined_v2"
    is_chat = name.endswith("_chat") and name not in ("nemotron_v2_chat", "nemotron_v1_chat")
    for source in nemotron:
        assert (source.template == "chat") == (is_chat or short_for_cot_chat or name.endswith("_tmpl"))
        assert source.reasoning == ("_cot" in name or short_for_cot_chat)
        assert source.splits[0] in (*SUBJECTS, "multilingual_ja")
    for percentage in (10, 30, 50, 100):
        if f"_{percentage}pct" in name:
            assert [source.percentage for source in nemotron] == [percentage]


def test_the_blends_have_the_weights_of_the_scripts() -> None:
    for name in ("combined_cot_chat", "combined_v2_cot_chat"):
        weights = {key: source.weight for key, source in shipped(name).sources.items()}
        assert sum(weights.values()) == pytest.approx(1.0)
        assert weights["openscience"] == 0.2
    assert (weights["nemotron_v1_code"], weights["nemotron_v2_stem"]) == (0.15, 0.05)


def test_a_blend_is_prepared_from_copies_of_the_hubs_files(hub_copy: Path, tmp_path: Path) -> None:
    prepared = prepare(shipped("combined_v2_cot_chat", [hub_copy]), tmp_path / "out")
    blend, texts = read_blend(prepared.blend_path), read_texts(prepared)
    assert [entry.weight for entry in blend.train] == [0.2, 0.1, 0.1, 0.15, 0.05, 0.05, 0.1, 0.15, 0.1]
    assert len(blend.valid) == len(blend.test) == 9
    assert len(texts["openscience"]) == RECORDS
    everything = list(chain.from_iterable(texts.values()))
    assert len(set(everything)) == len(everything)
    for name, of_source in texts.items():
        counts = prepared.manifest.sources[name]
        assert counts.records == RECORDS and len(of_source) == RECORDS - counts.left_out
        assert all("<user>" in text and "<assistant><think>\n" in text for text in of_source)
    assert all(0.1 < len(texts[f"nemotron_v1_{subject}"]) / RECORDS < 0.5 for subject in SUBJECTS)


def test_tokens_that_were_prepared_from_copies_are_those_of_the_hub_dataset(hub_copy: Path, tmp_path: Path) -> None:
    copies, plain = shipped("nemotron_v2_stem", [hub_copy]), shipped("nemotron_v2_stem")
    model, paths = ModelConfig(name="m", weights="w"), PathsConfig(data_cache=tmp_path)
    out = prepared_blend_path(copies, model, paths).parent
    assert out == prepared_blend_path(plain, model, paths).parent
    prepare(copies, out)
    assert prepare(plain, out).reused  # and the hub was not asked


def test_a_sample_is_drawn_over_the_whole_file_by_its_seed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"document {n}"} for n in range(2000)])
    numbers: list[set[int]] = []
    for run, seed in enumerate((1, 1, 2)):
        dataset = lines_dataset(tmp_path / "l.jsonl", percentage=25, sample_seed=seed)
        prepared = prepare(dataset, tmp_path / f"out{run}")
        numbers.append({int(text.split()[1]) for text in read_texts(prepared)["lines"]})
    assert numbers[0] == numbers[1] != numbers[2]
    assert 420 < len(numbers[0]) < 580
    assert 80 < len([n for n in numbers[0] if n < 500]) < 170


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_large_file_gives_the_same_on_one_process_and_on_several(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 5_000)
    records = [nemotron_record("math", number % 700, tool_calls=True) for number in range(1000)]
    (write_jsonl if suffix == "jsonl" else write_parquet)(tmp_path / f"l.{suffix}", records)
    dataset = lines_dataset(tmp_path / f"l.{suffix}", percentage=90)
    one, three = (prepare(dataset, tmp_path / f"out{processes}", processes) for processes in (1, 3))
    assert file_hashes(one) == file_hashes(three)
    counts = three.manifest.sources["lines"]
    assert counts.records == 1000 and 60 < counts.left_out < 140
    texts = read_texts(three)["lines"]
    assert len(texts) == len(set(texts)) == 1000 - counts.left_out - counts.duplicate_documents


def test_bad_records_are_told_counted_and_passed_over_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 1_000)
    lines = [json.dumps({"text": f"document {n}"}) for n in range(500)]
    for number in (7, 300, 450):
        lines[number - 1] = "{broken"
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    told: list[str] = []
    prepared = prepare(lines_dataset(tmp_path / "l.jsonl", max_bad_records=3), tmp_path / "out", 2, told.append)
    counts = prepared.manifest.sources["lines"]
    assert counts.bad_records == 3
    assert [example.partition(": ")[0].rpartition(", ")[2] for example in counts.bad_examples] == [
        "line 7",
        "line 300",
        "line 450",
    ]
    assert len([line for line in told if line.startswith("  bad record, passed over")]) == 3
    with pytest.raises(DataError, match=r"more than 2 bad records, the last at .*l\.jsonl, line \d+: not JSON"):
        prepare(lines_dataset(tmp_path / "l.jsonl", max_bad_records=2), tmp_path / "other", 1)
    # What was done is gone on with once the limit is higher.
    told.clear()
    prepare(lines_dataset(tmp_path / "l.jsonl", max_bad_records=3), tmp_path / "other", 1, told.append)
    assert any(line.startswith("  going on: ") for line in told)


def test_a_preparation_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 2_000)
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"document {n}"} for n in range(1000)])
    dataset = lines_dataset(tmp_path / "l.jsonl")
    whole = prepare(dataset, tmp_path / "whole")
    made: list[str] = []
    make = UnitMaker.make

    def make_some(self: UnitMaker, unit: Any, *others: Any) -> Any:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(unit.name)
        return make(self, unit, *others)

    monkeypatch.setattr(UnitMaker, "make", make_some)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    first, made[:] = list(made), []
    monkeypatch.setattr(
        UnitMaker, "make", lambda self, unit, *others: (made.append(unit.name), make(self, unit, *others))[1]
    )
    assert file_hashes(prepare(dataset, tmp_path / "stopped")) == file_hashes(whole)
    assert made and not set(first) & set(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.jsonl", "stopped", "whole"]


def test_work_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"document {n}"} for n in range(50)] + [{"txt": "bad"}])
    with pytest.raises(DataError, match="line 51"):
        prepare(lines_dataset(tmp_path / "l.jsonl"), tmp_path / "out")
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"another {n}"} for n in range(50)])
    texts = read_texts(prepare(lines_dataset(tmp_path / "l.jsonl"), tmp_path / "out"))["lines"]
    assert len(texts) == 50 and all(text.startswith("another") for text in texts)


def test_a_tokenizer_without_a_chat_template_is_refused_before_anything_is_read(hub_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the chat template failed"):
        prepare_dataset(shipped("nemotron_v2_math_chat", [hub_copy]), BytesTokenizer(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_copies_are_found_by_subset_and_split_and_missing_ones_named(hub_copy: Path, tmp_path: Path) -> None:
    source = SourceConfig(kind="hub", repository=V2, splits=("math", "code"), paths=(str(hub_copy),))
    names = [path.name for path in sources.source_files(source)]
    assert names == [f"{split}-0000{part}-of-00002.parquet" for split in ("math", "code") for part in (0, 1)]
    with pytest.raises(DataError, match=r"holds no \*\.jsonl, \*\.parquet file of tool_calling"):
        sources.source_files(source.model_copy(update={"splits": ("math", "tool_calling")}))
    write_jsonl(tmp_path / "chat.jsonl", [])
    flat = source.model_copy(update={"splits": ("chat",), "paths": (str(tmp_path),)})
    assert [path.name for path in sources.source_files(flat)] == ["chat.jsonl"]


def test_one_file_is_no_copy_of_several_sources_or_splits(hub_copy: Path, tmp_path: Path) -> None:
    file = hub_copy / V2 / "data/math-00000-of-00002.parquet"
    with pytest.raises(DataError, match=r"is one file, and the dataset reads several: openscience train, nemotron_v1_"):
        prepare(shipped("combined_v2_cot_chat", [file]), tmp_path / "out")
    source = SourceConfig(kind="hub", repository=V2, splits=("math", "code"), paths=(str(file),))
    with pytest.raises(DataError, match=r"reads several: n math, n code"):
        prepare(DatasetConfig(name="n", source=source), tmp_path / "out")
    one = source.model_copy(update={"splits": ("math",)})
    assert prepare(DatasetConfig(name="n", source=one), tmp_path / "out").manifest.sources["n"].records == RECORDS // 2


def test_a_document_of_two_sources_is_kept_in_the_first_alone(tmp_path: Path) -> None:
    same = [{"text": f"document {n}"} for n in range(100)]
    for name, more in (("a", 0), ("b", 60)):
        write_jsonl(tmp_path / f"{name}.jsonl", [*same, *({"text": f"{name} {n}"} for n in range(more))])
    dataset = DatasetConfig.model_validate(
        {
            "name": "two",
            "sources": {
                name: {"kind": "jsonl", "paths": [str(tmp_path / f"{name}.jsonl")], "weight": 1} for name in "ab"
            },
            "valid_fraction": 0.1,
            "test_fraction": 0.1,
        }
    )
    prepared = prepare(dataset, tmp_path / "out")
    texts = read_texts(prepared)
    assert (len(texts["a"]), len(texts["b"])) == (100, 60)
    assert prepared.manifest.sources["b"].duplicate_documents == 100
    assert np.isclose(sum(counts.documents for counts in prepared.counts.values()), 160)


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_the_loss_of_a_masked_dataset_counts_the_last_answers_tokens_alone(tmp_path: Path, template: str) -> None:
    chats = [
        [("user", f"question {n}"), ("assistant", "first"), ("user", "and?"), ("assistant", f"Answer {n}.")]
        for n in range(300)
    ]
    records = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    write_jsonl(tmp_path / "l.jsonl", records)
    dataset = lines_dataset(tmp_path / "l.jsonl", template=template).model_copy(update={"answer_loss_only": True})
    prepared = prepare(dataset, tmp_path / "out", 2)
    share = 300 * len("Answer 123.|") / sum(counts.tokens for counts in prepared.counts.values())
    blend = read_blend(prepared.blend_path)
    two = Blend(train=(*blend.train, *blend.train), valid=blend.valid, test=())
    for of_blend in (blend, two):
        datasets = build_gpt_datasets(
            of_blend,
            sequence_length=64,
            train_samples=50,
            valid_samples=5,
            test_samples=0,
            seed=1,
            tokenizer=ChatBytesTokenizer(),
            cache_dir=tmp_path / "index",
            masked=True,
        )
        text = b"".join(_counted_bytes(datasets.train[index]) for index in range(50)).decode()
        assert text.count("Answer ") > 30 and not any(word in text for word in ("question", "first", "and?"))
        counted = sum(int(datasets.valid[index]["loss_mask"].sum()) for index in range(5)) / (5 * 64)
        assert 0.5 * share < counted < 2 * share


def _counted_bytes(sample: Mapping[str, Any]) -> bytes:
    labels = sample["labels"][sample["loss_mask"] == 1].tolist()
    return bytes(label if label < 256 else ord("|") for label in labels)


def test_a_loss_mask_that_is_not_there_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"document {n}"} for n in range(100)])
    dataset = lines_dataset(tmp_path / "l.jsonl")
    blend = read_blend(prepare(dataset, tmp_path / "out").blend_path)
    sizes = {"sequence_length": 16, "train_samples": 1, "valid_samples": 1, "test_samples": 0, "seed": 1}
    with pytest.raises(DataError, match=r"has no loss mask of its [0-9,]+ tokens"):
        build_gpt_datasets(blend, **sizes, tokenizer=ChatBytesTokenizer(), cache_dir=tmp_path / "i", masked=True)
    masked = dataset.model_copy(update={"answer_loss_only": True})
    with pytest.raises(DataError, match="line 1: a record with `text` does not say what its answer is"):
        prepare(masked, tmp_path / "masked")
    made = DatasetConfig(name="made", source=SourceConfig(kind="made"), answer_loss_only=True)
    with pytest.raises(DataError, match="asks for answers, and made is plain text"):
        prepare(made, tmp_path / "made")


def test_a_failure_on_one_of_several_processes_ends_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 1_000)
    lines = [json.dumps({"text": f"document {n}"}) for n in range(5_000)]
    lines[99] = "{broken"
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"l\.jsonl, line 100: not JSON"):
        prepare(lines_dataset(tmp_path / "l.jsonl"), tmp_path / "out", 3)
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_an_outside_failure_and_what_is_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 1_000)
    write_jsonl(tmp_path / "l.jsonl", [{"text": f"document {n}"} for n in range(500)])
    make = UnitMaker.make

    def make_some(self: UnitMaker, unit: Any, *others: Any) -> Any:
        if unit.number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(self, unit, *others)

    with monkeypatch.context() as patch:
        patch.setattr(UnitMaker, "make", make_some)
        with pytest.raises(OutsideError, match="a preparing process was killed"):
            prepare(lines_dataset(tmp_path / "l.jsonl"), tmp_path / "out", 2)
    told: list[str] = []
    prepare(lines_dataset(tmp_path / "l.jsonl"), tmp_path / "out", 1, told.append)
    assert told[0].startswith("  going on: ")
