"""`qad_core convert-conf`: a `.conf` of the scripts written as an experiment of ours."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from qad_core.commands.output import console, print_json
from qad_core.config.conf_file import read_conf
from qad_core.config.conf_yaml import experiment_yaml
from qad_core.config.library import CONF_SUFFIX, find_library
from qad_core.config.paths import expand_user
from qad_core.config.secret_values import Secrets
from qad_core.errors import ConfigError, ExitCode


def convert_conf(conf: str, out: Path | None, *, as_json: bool) -> ExitCode:
    """Write the YAML to `out`, or to the conf's name in the working directory, and say what is not carried over.

    Raises InvalidConfigError for a conf that cannot be read, and ConfigError where there is none or where
    the YAML would replace a file.
    """
    source = expand_user(conf)
    if not source.is_file():
        raise ConfigError(f"there is no file {source}", f"Name a {CONF_SUFFIX} of the scripts.")
    target = out or Path(source.with_suffix(".yaml").name)
    found = read_conf(source, find_library(os.environ), os.environ, environment_first=False)
    secrets = Secrets.of(os.environ)
    _write_new(target, experiment_yaml(found, secrets))
    notes = secrets.hide_in(found.notes)
    if as_json:
        print_json({"path": target, "notes": [dataclasses.asdict(note) for note in notes]})
        return ExitCode.DONE
    show = console()
    show.print(f"Wrote {target}. `qad_core check {target}` tells whether it can run.", markup=False, soft_wrap=True)
    if notes:
        show.print("Not carried over, or added because the scripts did:")
    for note in notes:
        show.print(f"- {note}", markup=False, soft_wrap=True)
    return ExitCode.DONE


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already", "Give another name with --out, or move it away.") from error
