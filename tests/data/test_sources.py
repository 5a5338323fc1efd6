from __future__ import annotations

import json
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data.fast_encoder import ReferenceEncoder
from qad_core.data.made_text import make_documents
from qad_core.data.render import ChatTemplate
from qad_core.data.sources import fingerprint_source, list_units, stdlib_files, stdlib_folder
from qad_core.data.unit_maker import UnitFiles, UnitMaker
from qad_core.errors import DataError
from qad_core.models.tokenizer import BytesTokenizer


def roles_template(messages: object) -> str:
    assert isinstance(messages, list)
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def read(kind: str, *paths: Path, **settings: object) -> list[str]:
    source = SourceConfig.model_validate({"kind": kind, "paths": tuple(map(str, paths)), **settings})
    return read_source(source)


def read_source(source: SourceConfig, apply_chat_template: ChatTemplate = roles_template) -> list[str]:
    """Every document of a source, as its units are tokenized, through a tokenizer of one token a byte."""
    with tempfile.TemporaryDirectory() as folder:
        maker = UnitMaker(
            folder=Path(folder),
            sources={"s": source},
            encoder=ReferenceEncoder(BytesTokenizer()),
            apply_chat_template=apply_chat_template,
            open_answer=None,
            eod_id=None,
            token_dtype=np.dtype(np.uint16),
            digest_seed=0,
        )
        texts: list[str] = []
        for unit in list_units("s", source, seed=0, tell=print):
            maker.make(unit, print, lambda tokens, characters: None)
            files = UnitFiles(maker.folder, unit)
            ends = np.cumsum(np.load(files.table)["tokens"])[:-1]
            documents = np.split(np.fromfile(files.tokens, dtype=np.uint16), ends)
            texts += [BytesTokenizer().decode(document.tolist()) for document in documents if len(document)]
        return texts


def test_made_text_is_the_same_at_every_call_and_of_varied_length() -> None:
    documents = read("made")
    assert documents == read("made")
    assert sum(map(len, documents)) >= 300_000
    assert len(set(documents)) == len(documents)
    assert min(map(len, documents)) * 5 < max(map(len, documents))


def test_made_text_takes_no_memory_for_what_it_has_given_away() -> None:
    tracemalloc.start()
    assert sum(map(len, make_documents(2_000_000))) >= 2_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_limit_on_characters_is_kept_to_the_letter() -> None:
    assert "".join(read("made", max_characters=10_001)) == "".join(read("made"))[:10_001]


def test_the_standard_library_comes_shuffled_by_the_seed_without_its_tests() -> None:
    assert stdlib_files(1) == stdlib_files(1) != stdlib_files(2)
    everything = set(read("python_stdlib"))
    assert (stdlib_folder() / "json/decoder.py").read_text(encoding="utf-8") in everything
    assert (stdlib_folder() / "idlelib/run.py").read_text(encoding="utf-8") not in everything


def test_a_folder_of_text_is_one_document_a_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/c.py").write_text("third")
    (tmp_path / "picture.png").write_bytes(b"\xff\xd8")
    assert read("text", tmp_path) == ["first", "second", "third"]


def test_every_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one\.txt, .*two\.txt"):
        read("text", tmp_path / "one.txt", tmp_path / "two.txt")


def test_a_folder_without_text_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.jsonl, \*\.parquet file"):
        read("jsonl", tmp_path)


def test_a_file_that_is_not_utf8_is_named_with_the_byte(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 at byte 3"):
        read("text", tmp_path)


def test_jsonl_holds_texts_and_chats(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    file.write_text('{"text": "plain", "id": 7}\n\n' + json.dumps({"messages": chat}) + "\n")
    assert read("jsonl", file) == ["plain", "<user>hi<assistant>yes"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"text": "cut', "not JSON"),
        ("[1, 2]", "list, not an object"),
        ('{"text": 3}', "`text` is a int"),
        ('{"txt": "x"}', r"neither `text` nor `messages` among the keys \['txt'\]"),
        ('{"messages": []}', "not a list of messages"),
        ('{"messages": [{"role": "user"}]}', "message 1 has no string `content`"),
        (r'{"text": "\ud83d"}', "half a surrogate pair"),
        ('{"text": "caf\xe9"}', "not JSON"),
    ],
)
def test_a_bad_record_is_named_with_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b'{"text": "good"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: .*" + complaint):
        read("jsonl", file)


def test_a_chat_template_that_fails_is_an_error_and_never_plain_text(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text('{"messages": [{"role": "tool", "content": "hi"}]}\n')

    def refusing_template(messages: object) -> str:
        raise KeyError("role tool")

    source = SourceConfig(kind="jsonl", paths=(str(file),))
    with pytest.raises(DataError, match=r"chat\.jsonl, line 1: the chat template failed on roles tool"):
        read_source(source, refusing_template)


def test_the_fingerprint_of_files_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    source = SourceConfig(kind="text", paths=(str(tmp_path),))
    before = fingerprint_source(source)
    assert before == fingerprint_source(source)
    (tmp_path / "a.txt").write_text("longer")
    assert fingerprint_source(source) != before
