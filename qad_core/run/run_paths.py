"""Which folders are runs, ours or those of older scripts, and which one a name means. Reads folders, no file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from qad_core.errors import RunError
from qad_core.run.folder import RunFolder


def resolve_run(name_or_path: str, roots: Sequence[Path]) -> Path:
    """Folder of the run of this path, or else of this name below a root.

    Raises RunError with the nearest names when there is none.
    """
    path = Path(name_or_path)
    if is_run_folder(path):
        return path
    known = {found.name: found for found in reversed(list(find_run_paths(roots)))}
    if name_or_path in known:
        return known[name_or_path]
    places = ", ".join(str(root) for root in roots) or "no folder"
    near = difflib.get_close_matches(name_or_path, known, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(near)}." if near else f"Runs here: {', '.join(sorted(known)) or 'none'}."
    raise RunError(f"There is no run {name_or_path!r} in {places}.", hint)


def find_run_paths(roots: Sequence[Path]) -> Iterator[Path]:
    """Run folders among the roots and their direct children, each once.

    Raises RunError for a root that may not be read; a root that is not there has no runs.
    """
    found: set[Path] = set()
    for root in roots:
        for path in (root, *_children(root)):
            if path.absolute() not in found and is_run_folder(path):
                found.add(path.absolute())
                yield path


def is_run_folder(path: Path) -> bool:
    """Whether a folder holds a run of ours, or one of the scripts that this product replaces."""
    folder = RunFolder(path)
    return is_ours(folder) or _is_foreign(folder)


def is_ours(folder: RunFolder) -> bool:
    """Whether a folder holds a run of ours."""
    return any(path.is_file() for path in (folder.config, folder.status, folder.metrics, folder.identity))


def _is_foreign(folder: RunFolder) -> bool:
    return (folder.path / "checkpoints").is_dir() and folder.event_files.is_dir()


def _children(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise RunError(f"The folder {root} may not be read.", "Ask its owner, or name another root.") from error
