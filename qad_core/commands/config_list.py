"""`qad_core config list`: the experiments, models, datasets, layouts and clusters that a config can name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from qad_core.commands.listing import Group, print_groups
from qad_core.commands.output import console, print_json
from qad_core.config.catalog import CatalogEntry, list_catalog
from qad_core.config.library import find_library
from qad_core.errors import ConfigError

COLUMNS = ("name", "what it is")


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
    print_groups(console(), "kind", COLUMNS, catalog_groups(catalog))


def catalog_groups(catalog: Mapping[str, Sequence[CatalogEntry]]) -> list[Group]:
    """The kinds as they are listed: a row an entry."""
    return [
        Group(kind, tuple((entry.name, entry.description) for entry in entries)) for kind, entries in catalog.items()
    ]
