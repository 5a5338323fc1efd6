"""run.json: what makes a run the run that it is, and the code that it was started with.

Owns which config fields make two runs different. Resuming a folder under another identity is refused
by `checks.py`; nothing here decides.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from pydantic_core import PydanticUndefined, to_jsonable_python

import qad_core
from qad_core.config.fields import FIELDS
from qad_core.config.load import config_values
from qad_core.config.schema import RunConfig
from qad_core.errors import RunError
from qad_core.run.folder import RunFolder

IDENTITY_SECTIONS = ("loss", "model", "dataset", "quantization", "distillation", "train")
"""Sections whose fields make two runs different, but for `FREE_KEYS`; the others say where and how often."""
FREE_KEYS = frozenset(
    {
        "distillation.config",  # what it says is in the section's other fields
        "distillation.chunk_tokens",
        "train.micro_batch_size",
        "train.recompute",
        "train.cuda_graphs",
        "train.iterations_to_skip",  # set on a resume, to step over data that made the loss jump
        "train.exit_duration_minutes",
        "train.exit_iteration",
        "train.distributed_timeout_minutes",
    }
)
"""Fields of those sections that a resume may change."""
_PACKAGES = ("torch", "megatron-core", "nvidia-modelopt", "transformers", "transformer-engine", "triton")
_GIT_SECONDS = 20


def fingerprint(config: RunConfig) -> dict[str, object]:
    """Dotted key -> JSON value of each field that makes two runs different.

    Not in it: the layout over ranks, the cluster, intervals, folders, exits and the tag.
    """
    values = cast("dict[str, object]", json.loads(config.model_dump_json()))
    keys = [key for key, _ in config_values(config)]
    return {key: _at(values, key) for key in keys if _counts(key)}


def write_identity(folder: RunFolder, config: RunConfig) -> None:
    """Replace run.json: fingerprint, versions of the product, Python and its packages, git commit and dirty patch."""
    code = Path(qad_core.__file__).parent
    identity = {
        "fingerprint": fingerprint(config),
        "version": qad_core.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": git_state(code),
    }
    temporary = folder.identity.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder.identity)


def differing_keys(folder: RunFolder, config: RunConfig) -> list[tuple[str, object, object]]:
    """(key, the folder's value, the config's value) of each difference; empty when the folder has no run.json.

    A field that only one of them has, such as one that a newer version added, has the schema's default on the
    other side: a run from before did what the default does. Raises RunError when run.json is not one.
    """
    theirs = _read_fingerprint(folder.identity)
    if theirs is None:
        return []
    ours = fingerprint(config)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    pairs = [(key, theirs.get(key, _default(key)), ours.get(key, _default(key))) for key in keys]
    return [(key, their, our) for key, their, our in pairs if their != our]


def git_state(code: Path) -> dict[str, str] | None:
    """{commit, dirty_patch} of the checkout that tracks the folder `code`; None where git tracks it not."""
    tracked = _git(code, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(code, "rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    return {"commit": commit.strip(), "dirty_patch": _git(code, "diff", "HEAD", "--", ":/") or ""}


def _default(key: str) -> object:
    """The schema's default as JSON; None for a field that has none or is not known."""
    default = FIELDS[key].default if key in FIELDS else None
    return None if default is PydanticUndefined else to_jsonable_python(default)


def _counts(key: str) -> bool:
    return key.split(".")[0] in IDENTITY_SECTIONS and key not in FREE_KEYS


def _at(values: dict[str, object], key: str) -> object:
    *sections, last = key.split(".")
    for section in sections:
        values = cast("dict[str, object]", values[section])
    return values[last]


def _read_fingerprint(path: Path) -> dict[str, object] | None:
    try:
        if not path.is_file():
            return None
        identity: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}", "Start over with --fresh, or name another tag.") from error
    found = cast("dict[str, object]", identity).get("fingerprint") if isinstance(identity, dict) else None
    if not isinstance(found, dict):
        raise RunError(f"{path} holds no fingerprint", "Start over with --fresh, or name another tag.")
    return cast("dict[str, object]", found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None when it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
