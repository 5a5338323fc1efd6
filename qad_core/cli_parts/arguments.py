"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[
    str, typer.Argument(help="A YAML file, the name of one in configs/experiments, or a .conf of the scripts.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For example train.learning_rate=1e-5.")
]
Run = Annotated[str, typer.Argument(help="A run folder, or its name.")]
Roots = Annotated[
    list[Path] | None, typer.Option("--root", help="Folder of runs; QAD_CHECKPOINT_ROOT or ./runs unless given.")
]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids of your own jobs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Tag = Annotated[str | None, typer.Option(help="Suffix of the run's name, to keep runs apart.")]
Out = Annotated[
    str, typer.Option(metavar="FILE", help="The YAML to write; a bare name is put into configs/experiments.")
]
Description = Annotated[str, typer.Option(help="First line of the file; what was changed unless given.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
