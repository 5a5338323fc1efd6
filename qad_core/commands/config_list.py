"""`qad_core config list`: the experiments, models, datasets, layouts and clusters that a config can name."""

from __future__ import annotations

import os

from qad_core.commands.output import console, make_table, print_json
from qad_core.config.catalog import list_catalog
from qad_core.config.library import find_library
from qad_core.errors import ConfigError


def list_configs(*, as_json: bool) -> None:
    """Print each with what it is; raises ConfigError where there is none."""
    library = find_library(os.environ)
    catalog = list_catalog(library)
    if not any(catalog.values()):
        places = ", ".join(str(root) for root in library.roots) or "./configs"
        raise ConfigError(f"no configs were found in {places}", "Let QAD_CONFIGS name a folder with models/.")
    if as_json:
        print_json(
            {
                kind: [
                    {"name": entry.name, "path": library.display(entry.path), "description": entry.description}
                    for entry in entries
                ]
                for kind, entries in catalog.items()
            }
        )
        return
    table = make_table("Kind", "Name", "What it is")
    for kind, entries in catalog.items():
        for number, entry in enumerate(entries):
            table.add_row(kind if number == 0 else "", entry.name, entry.description)
    console().print(table)
