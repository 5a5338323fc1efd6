"""One record of a JSONL file to the text that is tokenized.

Owns the two record shapes, `{"text": ...}` and `{"messages": [{"role", "content"}, ...]}`. A record
with both is taken by its `text`, which somebody has rendered already. A chat template that fails is
an error: chat rendered as plain text would train the model on a format that it never sees again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from qad_core.errors import DataError, QadError

Message = dict[str, str]
ChatTemplate = Callable[[Sequence[Message]], str]


def render_record(record: object, apply_chat_template: ChatTemplate) -> str:
    """The record's text, through the chat template where it is a chat.

    Raises `DataError` (without file and line, which the caller knows) when the record has neither
    shape, when the template fails, or when the text cannot be written as UTF-8.
    """
    if not isinstance(record, dict):
        raise DataError(f"a record is a {type(record).__name__}, not an object", RECORD_HINT)
    fields = cast("dict[str, object]", record)
    if "text" in fields:
        text = fields["text"]
        if not isinstance(text, str):
            raise DataError(f"`text` is a {type(text).__name__}, not a string", RECORD_HINT)
    elif "messages" in fields:
        text = _render_chat(_read_messages(fields["messages"]), apply_chat_template)
    else:
        raise DataError(f"neither `text` nor `messages` among the keys {sorted(fields)}", RECORD_HINT)
    _check_encodable(text)
    return text


RECORD_HINT = 'Write {"text": "..."} or {"messages": [{"role": "user", "content": "..."}, ...]}, one object a line.'


def _read_messages(value: object) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise DataError(f"`messages` is {value!r:.60}, not a list of messages", RECORD_HINT)
    return [_read_message(number, message) for number, message in enumerate(cast("list[object]", value), start=1)]


def _read_message(number: int, value: object) -> Message:
    if not isinstance(value, dict):
        raise DataError(f"message {number} is a {type(value).__name__}, not an object", RECORD_HINT)
    message = cast("dict[str, object]", value)
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise DataError(f"message {number} has no string `{key}`", RECORD_HINT)
    return {key: text for key, text in message.items() if isinstance(text, str)}


def _render_chat(messages: list[Message], apply_chat_template: ChatTemplate) -> str:
    try:
        return apply_chat_template(messages)
    except Exception as error:  # a template is a program of the tokenizer's author and may raise anything
        reason = error.message if isinstance(error, QadError) else f"{type(error).__name__}: {error}"
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the chat template failed on roles {roles}: {reason}",
            "Mend or remove the record, or use a tokenizer with a chat template for such chats.",
        ) from error


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds half a surrogate pair at character {error.start}", "Escape it as a whole."
        ) from error
