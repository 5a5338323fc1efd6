"""The recorded fleet: run folders of real trainings of the tiny model, as they were left, without checkpoints.

Owns the archive's format: one folder a run, times of metrics and logs as they were, and `story.json`, which says
when each run began and by which SLURM jobs. `python -m qad_tui.demo.recording STORY FOLDER` makes the archive anew.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

ARCHIVE = Path(__file__).with_name("fleet.tar.xz")
STORY_NAME = "story.json"
HOME = "/home/you/qad"
"""Where the recorded runs say that they lie."""
_KEPT = ("config.yaml", "metrics.jsonl", "status.json", "logs/*_qad_*.log", "logs/output_*.out")


class DemoLink(BaseModel):
    """One SLURM job of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    state: Literal["PENDING", "RUNNING", "TIMEOUT", "COMPLETED", "FAILED"]
    first_step: int = 0
    """Step that it went on from."""
    exit_code: int | None = None
    reason: str = ""
    starts_in: float | None = None
    """Seconds from now to SLURM's estimate, while it waits."""


class DemoRun(BaseModel):
    """How a recorded run is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    """Its folder in the archive, which is its name."""
    steps: int
    """Steps that it has done when the demo begins."""
    ended: float | None = None
    """Seconds before now at which it ended; None while it grows."""
    seconds_a_step: float | None = None
    """Pace of the replay; None replays as recorded."""
    links: tuple[DemoLink, ...] = ()


class DemoStory(BaseModel):
    """The fleet at the moment at which the demo begins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[DemoRun, ...]


@dataclass(frozen=True)
class RecordedRun:
    """One run's files."""

    files: dict[str, str]
    """Path below the run folder -> text."""

    def metrics(self) -> list[dict[str, object]]:
        """Every line of metrics.jsonl."""
        return [json.loads(line) for line in self.files["metrics.jsonl"].splitlines()]


def read_recording(path: Path = ARCHIVE) -> tuple[DemoStory, dict[str, RecordedRun]]:
    """The story, and the recorded runs by name."""
    files: dict[str, dict[str, str]] = {}
    story: DemoStory | None = None
    with tarfile.open(path) as archive:
        for member in archive:
            found = archive.extractfile(member)
            assert found is not None
            text = found.read().decode()
            if member.name == STORY_NAME:
                story = DemoStory.model_validate_json(text)
            else:
                run, _, name = member.name.partition("/")
                files.setdefault(run, {})[name] = text
    assert story is not None
    return story, {run: RecordedRun(found) for run, found in files.items()}


def make_archive(story: Path, root: Path, out: Path = ARCHIVE) -> None:
    """Pack the runs that a story names; machine names and folders are replaced by made-up ones."""
    runs = DemoStory.model_validate_json(story.read_text(encoding="utf-8")).runs
    with tarfile.open(out, "w:xz") as archive:
        _add(archive, STORY_NAME, story.read_text(encoding="utf-8"))
        for run in runs:
            for name, text in _files_of(root / run.folder):
                _add(archive, f"{run.folder}/{name}", _anonymous(text, root))


def _files_of(folder: Path) -> Iterator[tuple[str, str]]:
    for pattern in _KEPT:
        for path in sorted(folder.glob(pattern)):
            yield str(path.relative_to(folder)), path.read_text(encoding="utf-8")


def _anonymous(text: str, root: Path) -> str:
    text = text.replace(str(root), f"{HOME}/runs").replace(str(root.parent), HOME)
    text = re.sub(r"/\S*/site-packages/", f"{HOME}/.venv/lib/site-packages/", text)
    return re.sub(r'("host": ?")[^"]*"', r'\1node01"', text)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    make_archive(Path(sys.argv[1]), Path(sys.argv[2]))
