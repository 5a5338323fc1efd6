from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data.render import Message, render_record
from qad_core.errors import DataError
from tests.data.hub_records import nemotron_record, science_record


def tagged(messages: Sequence[Message]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def render(record: object, **settings: Any) -> str:
    return render_record(record, SourceConfig(kind="jsonl", **settings), tagged).text


def test_the_four_names_of_the_scripts_are_four_texts() -> None:
    record = nemotron_record("math", 3, tool_calls=False)
    question, thoughts = "math question 3: what is 3 + 3?", "<think>\nI add 3 to itself.\n</think>\n\n"
    assert render(record, template="plain", reasoning=False) == f"User: {question}\n\nAssistant: It is 6."
    assert render(record, template="plain") == f"User: {question}\n\nAssistant: {thoughts}It is 6."
    assert render(record, reasoning=False) == f"<user>{question}<assistant>It is 6."
    assert render(record) == f"<user>{question}<assistant>{thoughts}It is 6."


def test_a_mode_in_the_column_reasoning_is_not_taken_for_a_thought() -> None:
    assert "on\n</think>" not in render(nemotron_record("math", 1, tool_calls=True))


def test_thoughts_beside_the_chat_become_the_think_block_of_the_last_answer() -> None:
    chat = [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "4"}]
    record = {"messages": chat, "reasoning": "Double it."}
    assert render(record) == "<user>2?<assistant><think>\nDouble it.\n</think>\n\n4"
    assert render(record, reasoning=False) == "<user>2?<assistant>4"


def test_openscience_and_slimorca_are_chats_too() -> None:
    assert render(science_record(2), template="plain").startswith("User: Which gas is number 2?\n\nAssistant: <think>")
    turns = [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Yes"},
    ]
    assert render({"conversations": turns}) == "<system>Be short.<user>Hi<assistant>Yes"


def test_a_tool_call_reaches_the_chat_template_whole_and_has_no_plain_form() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    record = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    seen: list[Message] = []

    def template(messages: Sequence[Message]) -> str:
        seen.extend(messages)
        return "rendered"

    assert render_record(record, SourceConfig(kind="jsonl"), template).text == "rendered"
    assert seen == [{"role": "assistant", "content": "", "tool_calls": [call]}]
    with pytest.raises(DataError, match="a tool call has no plain form"):
        render(record, template="plain")


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"conversations": [{"from": "robot", "value": "x"}]}, "message 1 is from 'robot'"),
        ({"input": "x", "output": None}, "message 2 has no string `content`"),
        ({"input": "x"}, "neither `text` nor `messages`"),
        ({"messages": [{"role": "assistant", "content": "<think>\nwithout an end"}]}, "a think block has no end"),
    ],
)
def test_a_record_that_cannot_be_rendered_is_refused(record: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        render(record, reasoning=False)
