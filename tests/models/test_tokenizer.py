from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from qad_core.errors import ModelError
from qad_core.models.tokenizer import BytesTokenizer, check_tokenizer_fits, load_tokenizer
from tests.models.smollm2 import GGUF_PATH

TEXT = "Hello  world!\n\tdef f(x): return x + 1  # éà 🙂"


def test_bytes_come_back_as_they_were() -> None:
    tokenizer = load_tokenizer("bytes", "random")
    assert tokenizer.encode("é!") == [0xC3, 0xA9, 0x21]
    assert tokenizer.decode([*tokenizer.encode(TEXT), 256]) == TEXT
    assert (tokenizer.vocab_size, tokenizer.eod_id) == (257, 256)


def test_bytes_have_no_chat_template() -> None:
    with pytest.raises(ModelError, match="chat template"):
        BytesTokenizer().apply_chat_template([{"role": "user", "content": "hi"}])


def test_the_tokenizer_of_a_gguf_file_lies_in_the_file() -> None:
    tokenizer = load_tokenizer(None, GGUF_PATH)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode("Hello world") == [19556, 905]
    assert (tokenizer.vocab_size, tokenizer.eod_id) == (49152, 2)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])
    assert chat.endswith("<|im_start|>user\nhi<|im_end|>\n")
    assert load_tokenizer(GGUF_PATH, "random") is tokenizer  # loading takes seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = RustTokenizer(WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="<end>").save_pretrained(tmp_path)
    return tmp_path


def test_a_transformers_folder_counts_its_added_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(None, folder)
    assert tokenizer.encode("b a c") == [1, 0, 2]
    assert (tokenizer.vocab_size, tokenizer.eod_id) == (4, 3)


def test_a_chat_template_that_would_write_todays_date_writes_the_same_on_every_day(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }} {{ messages[0].content }}"
    )
    chat = load_tokenizer(None, folder).apply_chat_template([{"role": "user", "content": "hi"}])
    assert chat == "26 Jul 2024 hi"


def test_a_tokenizer_of_a_larger_vocabulary_is_refused() -> None:
    check_tokenizer_fits(BytesTokenizer(), 512)
    check_tokenizer_fits(BytesTokenizer(), 257)
    with pytest.raises(ModelError, match=r"257 token ids, the model only 256"):
        check_tokenizer_fits(BytesTokenizer(), 256)


def test_random_weights_need_a_tokenizer_to_be_named() -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(None, "random")


def test_a_place_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="tokenizer"):
            load_tokenizer(None, place)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read as a tokenizer"):
        load_tokenizer(folder, "random")
