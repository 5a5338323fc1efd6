"""The groups `data` and `config`, and `import`: what configs can name, and what becomes a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qad_core.cli_parts.arguments import AsJson, Description, Experiment, Out, Overrides, Overwrite, Roots, Run

data_app = typer.Typer(help="Datasets and their preparation into tokens.", no_args_is_help=True)
config_app = typer.Typer(help="Configs.", no_args_is_help=True)


def import_model(
    model: Annotated[
        str,
        typer.Argument(
            help="A transformers folder, .gguf file, Megatron checkpoint, hub name or name of configs/models."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="CKPT", help="Folder of the checkpoint; it must be new or empty.")],
    overrides: Overrides = None,
    quantize: Annotated[
        str | None, typer.Option(metavar="nvfp4", help="Calibrate quantizers and save them with the weights.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset of configs/datasets that calibration sees.")] = None,
    make_vocab_size_divisible_by: Annotated[
        int,
        typer.Option(
            min=1, max=2**20, metavar="N", help="Pad the vocabulary with zeros to a multiple; Megatron-LM: 128 x TP."
        ),
    ] = 1,
    as_json: AsJson = False,
) -> int:
    """Write a model as a Megatron checkpoint, which model.weights can name.

    Plain weights pass through memory one tensor at a time. A model that is quantized, here or before, is held whole.
    """
    from qad_core.commands import import_model as command

    options = command.ImportOptions(quantize, dataset, make_vocab_size_divisible_by, as_json)
    return command.import_model(model, out, overrides or [], options)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="A dataset of configs/datasets, or an experiment.")],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model of configs/models whose tokenizer is used.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="Text, JSONL or Parquet to read instead; for a hub dataset, copies.")
    ] = None,
) -> int:
    """Turn a dataset's text into tokens."""
    from qad_core.commands import data as command

    return command.prepare_data(name, overrides or [], model=model, source=source)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Show the datasets that configs can name."""
    from qad_core.commands import data as command

    command.list_data(as_json=as_json)


@config_app.command("show")
def config_show(
    experiment: Annotated[str, typer.Argument(help="An experiment, or a run folder or its name.")],
    overrides: Overrides = None,
    root: Roots = None,
) -> None:
    """Print an experiment's or a run's config as resolved, with where each value came from."""
    from qad_core.commands import check as command

    command.show_config(experiment, overrides or [], root or [])


@config_app.command("list")
def config_list(as_json: AsJson = False) -> None:
    """Show the experiments, models, datasets, layouts and clusters that can be named."""
    from qad_core.commands import config_list as command

    command.list_configs(as_json=as_json)


@config_app.command("save")
def config_save(
    experiment: Experiment,
    out: Out,
    overrides: Overrides = None,
    description: Description = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write an experiment with changes as an experiment of its own: parts by name, and the values over them."""
    from qad_core.commands import config_save as command

    command.save(experiment, overrides or [], command.SaveOptions(out, description, overwrite, as_json))


@config_app.command("clone")
def config_clone(
    run: Run,
    out: Out,
    changes: Overrides = None,
    description: Description = "",
    overwrite: Overwrite = False,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's config as an experiment, with changes and a tag that keeps the two runs apart."""
    from qad_core.commands import config_save as command

    command.clone(run, changes or [], root or [], command.SaveOptions(out, description, overwrite, as_json))
