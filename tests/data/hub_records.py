"""Records in the shape of the hub's datasets, and folders of them as a copy of the hub would be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

V1 = "nvidia/Nemotron-Post-Training-Dataset-v1"
V2 = "nvidia/Nemotron-Post-Training-Dataset-v2"
OPEN_SCIENCE = "nvidia/OpenScience"
SUBJECTS = ("stem", "math", "code", "chat")


def nemotron_record(subject: str, number: int, *, tool_calls: bool) -> dict[str, Any]:
    """A record of v2, or with `tool_calls` of v1: thoughts stand in the answer, `reasoning` says that they do."""
    question = f"{subject} question {number}: what is {number} + {number}?"
    answer = f"<think>\nI add {number} to itself.\n</think>\n\nIt is {2 * number}."
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    if tool_calls:
        messages = [{**message, "tool_calls": []} for message in messages]
    record = {"uuid": f"{subject}-{number}", "license": "cc-by-4.0", "generator": "made", "version": "0"}
    record |= {"category": subject, "reasoning": "on", "messages": messages}
    return record | ({"metadata": "{}"} if tool_calls else {})


def science_record(number: int) -> dict[str, Any]:
    return {"input": f"Which gas is number {number}?", "output": f"<think>\nCount.\n</think>\n\nGas {number}."}


def write_parquet(path: Path, records: Sequence[dict[str, Any]], rows_a_group: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(list(records))
    pyarrow.parquet.write_table(table, path, row_group_size=rows_a_group)


def write_jsonl(path: Path, records: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_hub_copy(folder: Path, records: int) -> None:
    """Both Nemotron datasets as Parquet and OpenScience as JSONL, so many records a split, below `owner/name`."""
    for repository in (V1, V2):
        for subject in SUBJECTS:
            made = [nemotron_record(subject, n, tool_calls=repository == V1) for n in range(records)]
            if repository == V2:  # else the two would hold the same documents
                made = [{**record, "messages": _another_question(record["messages"])} for record in made]
            half = records // 2
            for part, of_part in enumerate((made[:half], made[half:])):
                write_parquet(folder / repository / f"data/{subject}-{part:05d}-of-00002.parquet", of_part)
    write_jsonl(folder / OPEN_SCIENCE / "OS-Q3-235B-4.jsonl", map(science_record, range(records)))
    write_jsonl(folder / OPEN_SCIENCE / "OS-Q2.5-32B-10.jsonl", [{"input": "other", "output": "subset"}])


def _another_question(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**messages[0], "content": f"Please: {messages[0]['content']}"}, *messages[1:]]
