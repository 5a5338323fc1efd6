"""One record to the text that is tokenized.

Owns the shapes of records and how a chat becomes text:

- `{"text": ...}`: somebody has rendered it already, and it is taken as it is, whatever else the record has;
- `{"messages": [{"role", "content"}, ...]}`: both Nemotron post-training datasets;
- `{"input", "output"}`: OpenScience;
- `{"conversations": [{"from", "value"}, ...]}`: SlimOrca.

A chat template that fails is an error: chat rendered as plain text would train the model on a format
that it never sees again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from qad_core.config.schema import SourceConfig
from qad_core.errors import DataError, QadError

Message = Mapping[str, Any]
"""`role` and `content`, both strings, and what else the chat template may look at."""
ChatTemplate = Callable[[Sequence[Message]], str]

RECORD_HINT = 'Write {"text": "..."} or {"messages": [{"role": "user", "content": "..."}, ...]}, one object a line.'
_SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system"}
"""SlimOrca's names of the roles."""
_PLAIN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
_MODES = ("", "on", "off")
"""The Nemotron datasets' `reasoning` says whether the answer was made with thinking; the thoughts are in the answer."""
_THINK_BLOCK = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_THINK_START = "<think>"
_PROBE: tuple[Message, ...] = ({"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"})


class Rendered(NamedTuple):
    """A document's text."""

    text: str
    answer_start: int | None = None
    """Character at which the last answer starts; None where nobody asked."""


def render_record(
    record: object, source: SourceConfig, apply_chat_template: ChatTemplate, open_answer: ChatTemplate | None = None
) -> Rendered:
    """The record's text by the source's `template` and `reasoning`.

    `open_answer` is the chat template that ends where the assistant has to speak; with it the start of
    the last answer is found.

    Raises `DataError` (without file and line, which the caller knows) when the record has no known
    shape, when the template fails, or when the text cannot be written as UTF-8.
    """
    if not isinstance(record, dict):
        raise DataError(f"a record is a {type(record).__name__}, not an object", RECORD_HINT)
    fields = cast("dict[str, object]", record)
    if "text" in fields:
        text = fields["text"]
        if not isinstance(text, str):
            raise DataError(f"`text` is a {type(text).__name__}, not a string", RECORD_HINT)
        if open_answer is not None:
            raise DataError("a record with `text` does not say what its answer is", "Set answer_loss_only to false.")
        rendered = Rendered(text)
    else:
        messages = read_messages(fields)
        reasoning = fields.get("reasoning")
        messages = _keep_reasoning(messages, reasoning) if source.reasoning else _drop_reasoning(messages)
        text = _render_plain(messages) if source.template == "plain" else _render_chat(messages, apply_chat_template)
        rendered = Rendered(text, None if open_answer is None else _find_answer(text, messages, source, open_answer))
    check_encodable(rendered.text)
    return rendered


def render_probe(apply_chat_template: ChatTemplate) -> str:
    """A question and an answer; raises `DataError` when not even these can be rendered."""
    return _render_chat(_PROBE, apply_chat_template)


def read_messages(fields: Mapping[str, object]) -> list[Message]:
    """The chat of a record in any of the known shapes."""
    if "messages" in fields:
        return [_read_message(number, item) for number, item in enumerate(_list_of(fields, "messages"), start=1)]
    if "conversations" in fields:
        turns = enumerate(_list_of(fields, "conversations"), start=1)
        return [_read_message(number, _read_turn(number, item)) for number, item in turns]
    if "input" in fields and "output" in fields:
        said = (("user", fields["input"]), ("assistant", fields["output"]))
        return [
            _read_message(number, {"role": role, "content": text}) for number, (role, text) in enumerate(said, start=1)
        ]
    raise DataError(f"neither `text` nor `messages` among the keys {sorted(fields)}", RECORD_HINT)


def check_encodable(text: str) -> None:
    """Raise `DataError` when the text cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds half a surrogate pair at character {error.start}", "Escape it as a whole."
        ) from error


def _find_answer(text: str, messages: list[Message], source: SourceConfig, open_answer: ChatTemplate) -> int:
    """Where the text goes on after everything before the last answer; earlier answers are part of the question.

    Templates leave the thoughts of earlier answers out, so only the last one stands as the model would give it.
    """
    if messages[-1]["role"] != "assistant":
        raise DataError(f"the last message is the {messages[-1]['role']}'s, so that there is no answer", RECORD_HINT)
    if source.template == "plain":
        return len(text) - len(messages[-1]["content"])
    question = _render_chat(messages[:-1], open_answer)
    if not text.startswith(question):
        raise DataError(
            "the chat template writes the question otherwise when the answer is there",
            "Set answer_loss_only to false for this tokenizer.",
        )
    return len(question)


def _list_of(fields: Mapping[str, object], key: str) -> list[object]:
    value = fields[key]
    if not isinstance(value, list) or not value:
        raise DataError(f"`{key}` is {value!r:.60}, not a list of messages", RECORD_HINT)
    return cast("list[object]", value)


def _read_turn(number: int, value: object) -> object:
    if not isinstance(value, dict):
        return value
    turn = cast("dict[str, object]", value)
    speaker = turn.get("from")
    if speaker not in _SPEAKERS:
        raise DataError(f"message {number} is from {speaker!r}", f"Known are {', '.join(_SPEAKERS)}.")
    return {"role": _SPEAKERS[cast("str", speaker)], "content": turn.get("value")}


def _read_message(number: int, value: object) -> Message:
    if not isinstance(value, dict):
        raise DataError(f"message {number} is a {type(value).__name__}, not an object", RECORD_HINT)
    message = {key: item for key, item in cast("dict[str, object]", value).items() if item is not None}
    if message.get("tool_calls"):
        message.setdefault("content", "")
    else:
        message.pop("tool_calls", None)  # Parquet gives every message every field
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise DataError(f"message {number} has no string `{key}`", RECORD_HINT)
    return message


def _keep_reasoning(messages: list[Message], reasoning: object) -> list[Message]:
    """Thoughts that stand beside the last answer are put before it, as a think block."""
    last = messages[-1]
    thoughts = reasoning.strip() if isinstance(reasoning, str) else ""
    if thoughts in _MODES or last["role"] != "assistant" or _THINK_START in last["content"]:
        return messages
    return [*messages[:-1], {**last, "content": f"<think>\n{thoughts}\n</think>\n\n{last['content'].lstrip()}"}]


def _drop_reasoning(messages: list[Message]) -> list[Message]:
    return [_drop_thoughts(message) if message["role"] == "assistant" else message for message in messages]


def _drop_thoughts(message: Message) -> Message:
    kept = {key: item for key, item in message.items() if key != "reasoning_content"}
    content = _THINK_BLOCK.sub("", message["content"], count=1)
    if content.lstrip().startswith(_THINK_START):
        raise DataError("a think block has no end, so that there is no answer without it", "Remove the record.")
    return {**kept, "content": content}


def _render_plain(messages: Sequence[Message]) -> str:
    strange = [message["role"] for message in messages if message["role"] not in _PLAIN_NAMES]
    if strange or any("tool_calls" in message for message in messages):
        what = f"the role {strange[0]!r}" if strange else "a tool call"
        raise DataError(f"{what} has no plain form", "Set dataset.source.template to chat.")
    return "\n\n".join(f"{_PLAIN_NAMES[message['role']]}: {message['content']}" for message in messages)


def _render_chat(messages: Sequence[Message], apply_chat_template: ChatTemplate) -> str:
    try:
        return apply_chat_template(messages)
    except Exception as error:  # a template is a program of the tokenizer's author and may raise anything
        reason = error.message if isinstance(error, QadError) else f"{type(error).__name__}: {error}"
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the chat template failed on roles {roles}: {reason}",
            "Mend or remove the record, or use a tokenizer with a chat template for such chats.",
        ) from error
