from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data.made_text import make_documents
from qad_core.data.sources import fingerprint_source, read_documents, stdlib_folder
from qad_core.errors import DataError


def roles_template(messages: object) -> str:
    assert isinstance(messages, list)
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def read(kind: str, *paths: Path, max_characters: int | None = None, seed: int = 0) -> list[str]:
    source = SourceConfig(kind=kind, paths=tuple(map(str, paths)), max_characters=max_characters)  # pyright: ignore[reportArgumentType]
    return list(read_documents(source, seed=seed, apply_chat_template=roles_template))


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
    some = read("python_stdlib", max_characters=200_000, seed=1)
    assert some == read("python_stdlib", max_characters=200_000, seed=1)
    assert some[0] != read("python_stdlib", max_characters=200_000, seed=2)[0]
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
    with pytest.raises(DataError, match=r"no \*\.jsonl file"):
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
        list(read_documents(source, seed=0, apply_chat_template=refusing_template))


def test_the_fingerprint_of_files_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    source = SourceConfig(kind="text", paths=(str(tmp_path),))
    before = fingerprint_source(source)
    assert before == fingerprint_source(source)
    (tmp_path / "a.txt").write_text("longer")
    assert fingerprint_source(source) != before
