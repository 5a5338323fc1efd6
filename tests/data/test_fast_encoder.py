from __future__ import annotations

import json
import unicodedata
from functools import partial
from typing import Any

import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data.fast_encoder import FastEncoder, ReferenceEncoder, choose_encoder, find_pattern
from qad_core.data.render import render_record
from qad_core.data.sources import read_text_file, stdlib_folder
from qad_core.models.tokenizer import Tokenizer, TransformersTokenizer
from tests.data.hub_records import nemotron_record

TEXTS = (
    "<|im_start|>user\nIt's 1,234.5 km²<|im_end|>\n<think>\nhm\n</think>\n\n<tool_call>{}</tool_call><|endoftext|>",
    "Київ 北京 🙂‍↔️ ǅ ſ İ \u2028 \u0085 café cafe\u0301 <think>\u0338",
    "\t\tif x:\r\n\r\n        return  'x'\n\n\n   \n",
    "\n" * 50_000 + "end",
    " " * 3_000 + "a" * 3_000,
    "",
)


@pytest.fixture(scope="module")
def encoder(qwen3_tokenizer: Tokenizer) -> FastEncoder:
    chosen = choose_encoder(qwen3_tokenizer)
    assert isinstance(chosen, FastEncoder)
    return chosen


def test_the_quick_way_gives_the_tokenizers_own_tokens(encoder: FastEncoder, qwen3_tokenizer: Tokenizer) -> None:
    modules = [read_text_file(stdlib_folder() / name) for name in ("argparse.py", "statistics.py", "html/entities.py")]
    for text in (*TEXTS, *modules):
        assert encoder.encode(text).tolist() == qwen3_tokenizer.encode(text)
    assert unicodedata.normalize("NFC", TEXTS[1]) != TEXTS[1]


def test_a_character_that_the_two_take_differently_is_found_and_left_to_the_tokenizer(
    qwen3_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(qwen3_tokenizer, TransformersTokenizer)
    definition: dict[str, Any] = dict(qwen3_tokenizer.definition or {})
    pattern = find_pattern(definition)
    assert pattern is not None
    # As if its regular expressions knew an older Unicode, in which this letter was none.
    older = json.loads(json.dumps(definition))
    older["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern.replace(r"\p{L}+", r"[\p{L}--[ß]]+")
    monkeypatch.setattr(TransformersTokenizer, "definition", property(lambda self: older))
    chosen = choose_encoder(qwen3_tokenizer)
    assert isinstance(chosen, FastEncoder)
    text = "Straße und Gruß"
    assert chosen._encoding.encode(text) != qwen3_tokenizer.encode(text)
    assert chosen.encode(text).tolist() == qwen3_tokenizer.encode(text)


def test_another_form_of_tokenizer_is_asked_itself(tokenizer: Tokenizer, qwen3_tokenizer: Tokenizer) -> None:
    assert isinstance(choose_encoder(tokenizer), ReferenceEncoder)
    assert isinstance(qwen3_tokenizer, TransformersTokenizer)
    definition: dict[str, Any] = dict(qwen3_tokenizer.definition or {})
    assert find_pattern({**definition, "normalizer": {"type": "Lowercase"}}) is None
    assert find_pattern({**definition, "model": {**definition["model"], "type": "Unigram"}}) is None
    reordered = {**definition["model"], "merges": definition["model"]["merges"][::-1]}
    assert find_pattern({**definition, "model": reordered}) is None


def test_qwen3s_own_template_keeps_the_thoughts_of_a_cot_dataset_and_marks_that_there_are_none_else(
    qwen3_tokenizer: Tokenizer,
) -> None:
    record = nemotron_record("math", 3, tool_calls=True)
    question = "<|im_start|>user\nmath question 3: what is 3 + 3?<|im_end|>\n<|im_start|>assistant\n"
    for reasoning, thoughts in ((True, "I add 3 to itself."), (False, "")):
        source = SourceConfig(kind="jsonl", reasoning=reasoning)
        template = qwen3_tokenizer.apply_chat_template
        text, start = render_record(record, source, template, partial(template, add_generation_prompt=True))
        assert start == len(question)
        assert text == f"{question}<think>\n{thoughts}\n</think>\n\nIt is 6.<|im_end|>\n"
