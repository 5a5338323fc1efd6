"""`qad_core data prepare` beside Megatron-LM's tools/preprocess_data.py: the same file, tokenizer and cores.

  python -m benchmarks.data_prepare --megatron-lm FOLDER --tokenizer FOLDER [--megabytes N] [--processes N]

FOLDER of Megatron-LM is a checkout of it. Both are whole commands, with their imports; the tokens have to be
the same byte for byte. Times are wall-clock and of the processors, which counts on a machine where others work
too; memory is the most that a command's processes had of their own together, on the file and on a part of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

import psutil

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console
from qad_core.config.data_paths import prepared_blend_path
from qad_core.config.load import ResolvedConfig, dump_resolved
from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig, RunConfig, SourceConfig
from qad_core.data.made_text import make_documents
from qad_core.data.sources import stdlib_files

SECONDS_BETWEEN_LOOKS = 0.1
CHARACTERS_OF_CODE = 4_000
SMALLER = 4
"""The part of the file that memory is compared on is so many times smaller."""


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    seconds: float
    processor_seconds: float
    """Of all its processes together."""
    peak_mib: float
    """Most memory that its processes had of their own together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    arguments = parse_arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        figure = measure_prepare(Path(folder), arguments)
    print_figure(figure, console())
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megatron-lm", type=Path, required=True, help="a checkout of Megatron-LM")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--megabytes", type=int, default=200, help="size of the file")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args(argv)


def measure_prepare(folder: Path, arguments: argparse.Namespace) -> Figure:
    """Both commands by turns on one file, and ours on a smaller one."""
    file, smaller = folder / "corpus.jsonl", folder / "smaller.jsonl"
    write_corpus(file, arguments.megabytes * 10**6)
    write_corpus(smaller, arguments.megabytes * 10**6 // SMALLER)
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for number in range(arguments.repeats):
        out = folder / f"run{number}"
        ours.append(run_ours(file, arguments.tokenizer, out / "ours", arguments.processes))
        theirs.append(run_megatron(file, arguments, out / "theirs"))
        check_same(out / "ours", out / "theirs")
    on_smaller = run_ours(smaller, arguments.tokenizer, folder / "small", arguments.processes)
    return describe(ours, theirs, on_smaller, file.stat().st_size, arguments)


def write_corpus(path: Path, size: int) -> None:
    """A JSONL file of about so many bytes: numbered documents, half English-like text and half Python code."""
    with path.open("w", encoding="utf-8") as file:
        for text in _documents():
            if file.tell() >= size:
                return
            file.write(json.dumps({"text": text}) + "\n")


def run_ours(file: Path, tokenizer: Path, out: Path, processes: int) -> Cost:
    """`python -m qad_core.data prepare`, with nothing held out, so that one file has every document."""
    config = RunConfig(
        model=ModelConfig(name="m", weights="random", tokenizer=str(tokenizer.absolute())),
        dataset=DatasetConfig(
            name="corpus",
            source=SourceConfig(kind="jsonl", paths=(str(file),)),
            valid_fraction=0.0,
            test_fraction=0.0,
        ),
        paths=PathsConfig(data_cache=out),
    )
    out.mkdir(parents=True)
    (out / "config.yaml").write_text(dump_resolved(ResolvedConfig(config, {})), encoding="utf-8")
    cost = run_command([sys.executable, "-m", "qad_core.data", "prepare", str(out / "config.yaml")], processes, {})
    prepared_blend_path(config.dataset, config.model, config.paths).parent.rename(out / "tokens")
    return cost


def run_megatron(file: Path, arguments: argparse.Namespace, out: Path) -> Cost:
    """Megatron-LM's own script, as the QAD scripts called it."""
    out.mkdir(parents=True)
    argv = [
        sys.executable, str(arguments.megatron_lm / "tools/preprocess_data.py"), "--input", str(file),
        "--output-prefix", str(out / "tokens"), "--tokenizer-type", "HuggingFaceTokenizer",
        "--tokenizer-model", str(arguments.tokenizer), "--append-eod", "--workers", str(arguments.processes),
        "--json-keys", "text",
    ]  # fmt: skip
    paths = [str(arguments.megatron_lm.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return run_command(argv, arguments.processes, {"PYTHONPATH": os.pathsep.join(paths)})


def run_command(argv: Sequence[str], cores: int, environment: dict[str, str]) -> Cost:
    """Run a command on so many cores, without its output; raises CalledProcessError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        ["taskset", "--cpu-list", ",".join(map(str, chosen)), *argv],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch_memory, args=(process, peak))
    watcher.start()
    code = process.wait()
    seconds = time.monotonic() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        raise subprocess.CalledProcessError(code, argv)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, used, peak[0])


def check_same(ours: Path, theirs: Path) -> None:
    """Raise AssertionError when the token files are not the same, byte for byte."""
    for suffix in ("bin", "idx"):
        mine = _hash(ours / f"tokens/corpus_train_text_document.{suffix}")
        assert mine == _hash(theirs / f"tokens_text_document.{suffix}"), f"the .{suffix} files differ"


def describe(
    ours: Sequence[Cost], theirs: Sequence[Cost], on_smaller: Cost, size: int, arguments: argparse.Namespace
) -> Figure:
    """The table."""
    rows = (("qad_core data prepare", ours), ("Megatron-LM preprocess_data.py", theirs))
    ratio = median(cost.seconds for cost in theirs) / median(cost.seconds for cost in ours)
    work = median(cost.processor_seconds for cost in theirs) / median(cost.processor_seconds for cost in ours)
    peak = median(cost.peak_mib for cost in ours)
    return Figure(
        title=f"{size / 1e6:,.0f} MB of JSONL to tokens on {arguments.processes} cores, "
        f"tokenizer {arguments.tokenizer.name}, median of {arguments.repeats}",
        columns=("", ">s", ">processor s", ">MB/s", ">peak MiB"),
        rows=tuple(
            (
                name,
                f"{median(cost.seconds for cost in costs):.1f}",
                f"{median(cost.processor_seconds for cost in costs):.1f}",
                f"{size / 1e6 / median(cost.seconds for cost in costs):.1f}",
                f"{median(cost.peak_mib for cost in costs):,.0f}",
            )
            for name, costs in rows
        ),
        sentences=(
            f"The token files are the same byte for byte; {ratio:.1f} times as fast, for {work:.1f} times less work "
            "of the processors.",
            f"A file {SMALLER} times smaller took {on_smaller.peak_mib:,.0f} MiB, this one {peak:,.0f} MiB.",
        ),
        data={
            "bytes": size,
            "ours": [vars(cost) for cost in ours],
            "megatron": [vars(cost) for cost in theirs],
            "smaller": vars(on_smaller),
        },
    )


def _documents() -> Iterator[str]:
    """Documents without end, no two the same."""
    english = make_documents(10**15)
    code = [path.read_text(encoding="utf-8", errors="replace") for path in stdlib_files(0)]
    for number in count():
        yield f"Document {number}. {next(english)}"
        module = code[number % len(code)]
        start = number // len(code) * CHARACTERS_OF_CODE % max(len(module) - CHARACTERS_OF_CODE, 1)
        yield f"# Module {number}\n{module[start : start + CHARACTERS_OF_CODE]}"


def _watch_memory(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    root = psutil.Process(process.pid)
    while process.poll() is None:
        peak[0] = max(peak[0], _own_memory(root) / 2**20)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _own_memory(root: psutil.Process) -> int:
    """Bytes that a process and its children have, what they share counted by halves, thirds and so on."""
    total = 0
    try:
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in members:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
