"""Where the YAML files of configs/ are: which folders are searched, and which names they hold.

Owns the look-up from a name to a file. It reads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.fields import nearest
from qad_core.config.paths import expand_user
from qad_core.errors import ConfigError
from qad_core.seen import is_file, is_folder

PART_FOLDERS: Mapping[str, str] = {
    "model": "models",
    "dataset": "datasets",
    "parallelism": "parallelism",
    "cluster": "clusters",
}
"""Sections that have parts -> their folders in configs/."""
EXPERIMENTS = "experiments"
SHIPPED = Path(__file__).with_name("shipped")
"""The files that come with the package; in a checkout a link to configs/ at its top."""
SUFFIXES = (".yaml", ".yml")
"""Of the files that hold a part or an experiment."""
CONF_SUFFIX = ".conf"
"""Of an experiment in the bash of the scripts, which is found by its path alone."""


@dataclass(frozen=True)
class ConfigLibrary:
    """The configs folders in the order of search: a file in an earlier one hides its namesake in a later one."""

    roots: tuple[Path, ...]

    def names(self, folder: str) -> list[str]:
        """Names of the files in one folder of configs/, sorted."""
        return sorted({path.stem for root in self.roots for path in (root / folder).glob("*.yaml")})

    def find_experiment(self, experiment: str) -> Path:
        """The file of an experiment, by path (`.yaml` or `.conf`) or name; raises ConfigError with the nearest name."""
        path = expand_user(experiment)
        if is_file(path):
            return path
        if path.suffix == CONF_SUFFIX or (path.suffix in SUFFIXES and len(path.parts) > 1):
            raise ConfigError(f"there is no experiment file {experiment}", "Name a .yaml or .conf that you may read.")
        return self._find(EXPERIMENTS, path.stem if path.suffix in SUFFIXES else experiment)

    def find_part(self, section: str, name: str, relative_to: Path) -> Path:
        """The file of a part, by name or by a `.yaml` path; raises ConfigError with the nearest name.

        Names match without regard to case and to `_` against `-`, so that `Qwen3-8B` finds qwen3-8b.yaml.
        """
        if not name.endswith(SUFFIXES):
            return self._find(PART_FOLDERS[section], name)
        path = relative_to / expand_user(name)
        if not is_file(path):
            raise ConfigError(f"{section}: there is no file {path}", "Name a file that you may read, or a part.")
        return path

    def display(self, path: Path) -> str:
        """A path as origins name it: `configs/models/tiny.yaml` for a file of a configs folder."""
        for root in self.roots:
            if path.is_relative_to(root) and root in (SHIPPED, Path("configs")):
                return (Path("configs") / path.relative_to(root)).as_posix()
        return path.as_posix()

    def _find(self, folder: str, name: str) -> Path:
        for root in self.roots:
            for path in sorted((root / folder).glob("*.yaml")):
                if _fold(path.stem) == _fold(name):
                    return path
        names = self.names(folder)
        near = nearest(name, names)
        hint = f"Did you mean {near}? " if near else ""
        raise ConfigError(f"{name!r} is not one of configs/{folder}", f"{hint}There are: {', '.join(names) or 'none'}.")


def find_library(environ: Mapping[str, str]) -> ConfigLibrary:
    """Search $QAD_CONFIGS, ./configs, then the shipped files; raises ConfigError when $QAD_CONFIGS is no folder."""
    roots = [Path("configs"), SHIPPED]
    named = environ.get("QAD_CONFIGS", "")
    if named:
        folder = expand_user(named)
        if not is_folder(folder):
            raise ConfigError(f"QAD_CONFIGS={named} is not a folder", "Name a folder with experiments/, models/ ...")
        roots.insert(0, folder)
    return ConfigLibrary(tuple(root for root in roots if is_folder(root)))


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")
