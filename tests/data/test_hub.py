"""The hub's path, over a real HTTP server on this machine; the hub itself is never asked."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data import backoff
from qad_core.data.hub import list_hub_files, stream_hub_file
from qad_core.errors import DataError, OutsideError
from tests.data.hub_records import nemotron_record, write_jsonl, write_parquet

RECORDS = [nemotron_record("math", number, tool_calls=False) for number in range(250)]


class BusyHandler(SimpleHTTPRequestHandler):
    """Serves a folder, but answers `status` as often as `refusals` says, with the `Retry-After` that is in it.

    Half the body is missing in the first `cuts` answers.
    """

    refusals: deque[str | None]
    status: int
    cuts: list[None]

    def do_GET(self) -> None:
        if not self.refusals:
            super().do_GET()
            return
        wait = self.refusals.popleft()
        self.send_response(self.status)
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        body = source.read()
        if self.cuts:
            self.cuts.pop()
            body = body[: len(body) // 2]
            self.close_connection = True
        outputfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def serve(
    folder: Path, refusals: list[str | None], status: int = 429, cuts: int = 0
) -> Iterator[tuple[str, deque[str | None]]]:
    """(URL of the folder, refusals that are left)."""
    left = deque(refusals)
    handler = type("Handler", (BusyHandler,), {"refusals": left, "status": status, "cuts": [None] * cuts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", left
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["math.jsonl", "math.parquet"])
def test_a_file_on_a_server_is_streamed_as_it_is_and_429_is_waited_out_aloud(tmp_path: Path, name: str) -> None:
    write = write_jsonl if name.endswith("jsonl") else write_parquet
    write(tmp_path / name, RECORDS)
    told: list[str] = []
    with serve(tmp_path, ["1", "0"]) as (url, left):
        read = [content for _, content in stream_hub_file(f"{url}/{name}", told.append)]
        assert [json.loads(line) if isinstance(line, bytes) else line for line in read] == RECORDS
    assert not left
    assert [line.partition("; ")[2] for line in told] == [
        "waiting 1 s, then try 2 of 10",
        "waiting 0 s, then try 3 of 10",
    ]
    assert all("asks to wait (429)" in line for line in told)


def test_a_stream_that_breaks_off_goes_on_after_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_SECONDS", 0.0)
    breaks = iter([3, 0, 7, 10])

    class Busy(Exception):
        status = 503

    def open_from(number: int) -> Iterator[int]:
        end = next(breaks)
        yield from range(number, end)
        if end < 10:
            raise Busy

    assert list(backoff.read_with_waits("file", open_from, lambda line: None)) == list(range(10))


def test_a_server_that_stays_busy_is_an_outside_failure_in_the_end(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "math.jsonl", RECORDS)
    with (
        serve(tmp_path, ["0"] * 30) as (url, _),
        pytest.raises(OutsideError, match=r"asks to wait \(429\) at each of 10 tries"),
    ):
        list(stream_hub_file(f"{url}/math.jsonl", lambda line: None))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_waited_for_and_says_what_a_gated_dataset_wants(tmp_path: Path, status: int) -> None:
    told: list[str] = []
    with serve(tmp_path, [None], status) as (url, _), pytest.raises(DataError, match="HF_TOKEN"):
        list(stream_hub_file(f"{url}/none.jsonl", told.append))
    assert told == []


@pytest.mark.parametrize("name", ["math.jsonl.gz", "math.jsonl", "math.parquet"])
def test_a_body_that_is_cut_is_read_again_and_an_outside_failure_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_SECONDS", 0.0)
    write = write_parquet if name.endswith("parquet") else write_jsonl
    write(tmp_path / name.removesuffix(".gz"), RECORDS)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "math.jsonl").read_bytes()))
    told: list[str] = []
    with serve(tmp_path, [], cuts=3) as (url, _):
        assert len(list(stream_hub_file(f"{url}/{name}", told.append))) == len(RECORDS)
    assert any("the connection broke off" in line for line in told)
    with serve(tmp_path, [], cuts=999) as (url, _), pytest.raises(OutsideError, match=r"broke off .* at each of 10"):
        list(stream_hub_file(f"{url}/{name}", told.append))


def test_waits_grow_to_five_minutes_unless_the_server_names_one() -> None:
    assert [5.0 * 2**n <= backoff.choose_wait(n + 1, None) <= 6.25 * 2**n for n in range(6)] == [True] * 6
    assert 300 <= backoff.choose_wait(9, None) <= 375
    assert [backoff.choose_wait(9, seconds) for seconds in (17.0, 3600.0)] == [17.0, 3600.0]


def test_the_files_of_a_split_are_those_that_the_datasets_card_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data/math-00000-of-00001.parquet", RECORDS)
    write_parquet(tmp_path / "data/tool-00000-of-00001.parquet", RECORDS)
    splits = [{"split": "math", "path": "data/math-*"}, {"split": "tool_calling", "path": "data/tool-*"}]
    card = json.dumps({"configs": [{"config_name": "default", "data_files": splits}]})  # JSON is YAML
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n")
    source = SourceConfig(kind="hub", repository=str(tmp_path), splits=("tool_calling",))
    (url,) = list_hub_files(source, print)
    assert url.endswith("data/tool-00000-of-00001.parquet")
    with pytest.raises(DataError, match="has no split stem"):
        list_hub_files(source.model_copy(update={"splits": ("stem", "math")}), print)


def test_splits_that_no_card_names_are_named_too_where_one_is_lacking(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", RECORDS)
    source = SourceConfig(kind="hub", repository=str(tmp_path), splits=("stem",))
    with pytest.raises(DataError, match=r"has no split stem\n  There are: train\."):
        list_hub_files(source, print)


def test_a_hub_that_names_no_files_is_an_outside_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(config=SimpleNamespace(data_files=None))  # what `datasets` makes of its own cache
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *others: nothing)
    with pytest.raises(OutsideError, match="names no files"):
        list_hub_files(SourceConfig(kind="hub", repository="a/b", splits=("math",)), print)
