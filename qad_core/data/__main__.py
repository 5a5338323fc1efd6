"""`python -m qad_core.data prepare CONFIG_YAML`: prepare the dataset of a resolved config.

Prints what is written while it works and a table at the end. Errors are caught here, once: a `QadError`
becomes its message and exit code; so does what the system refuses, a full disk with 4.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qad_core.config.data_paths import dataset_blend_path, prepared_blend_path
from qad_core.config.load import read_resolved
from qad_core.config.paths import resolve_tokenizer, resolve_weights
from qad_core.config.schema import DatasetConfig, RunConfig
from qad_core.data.blend import SPLITS, read_blend
from qad_core.data.prepare import Counts, PreparedDataset, prepare_dataset
from qad_core.errors import ExitCode, QadError, explain_os_error
from qad_core.models.tokenizer import Tokenizer, load_tokenizer


def main(arguments: list[str] | None = None) -> int:
    """Prepare, print, and return the exit code."""
    options = _parse_arguments(arguments)
    try:
        _prepare(read_resolved(options.config).config)
    except QadError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        explained = explain_os_error(error)
        print(f"error: {explained.message}\n  {explained.hint} The tokens go to paths.data_cache.", file=sys.stderr)
        return explained.exit_code
    return ExitCode.DONE


def format_counts(counts: Counts) -> str:
    """One line a split: documents, tokens, characters."""
    rows = [
        f"  {split:<6}{counts[split].documents:>12,} documents{counts[split].tokens:>16,} tokens"
        f"{counts[split].characters:>16,} characters"
        for split in SPLITS
        if split in counts
    ]
    return "\n".join(rows)


def _prepare(config: RunConfig) -> None:
    dataset = config.dataset
    if dataset.blend is not None:
        blend_path = dataset_blend_path(dataset, config.model, config.paths)
        read_blend(blend_path)
        print(f"{dataset.name}: the datablend {blend_path} is there; nothing to prepare")
        return
    out_dir = prepared_blend_path(dataset, config.model, config.paths).parent
    print(f"{dataset.name}: preparing into {out_dir}", flush=True)
    prepared = prepare_dataset(dataset, _load_tokenizer(config), out_dir, report=_print_progress)
    print(_summarize(dataset, prepared))


def _load_tokenizer(config: RunConfig) -> Tokenizer:
    models_root = config.paths.models_root
    return load_tokenizer(resolve_tokenizer(config.model, models_root), resolve_weights(config.model, models_root))


def _print_progress(counts: Counts) -> None:
    documents = sum(split.documents for split in counts.values())
    tokens = sum(split.tokens for split in counts.values())
    characters = sum(split.characters for split in counts.values())
    print(f"  {documents:,} documents, {tokens:,} tokens, {characters:,} characters so far", flush=True)


def _summarize(dataset: DatasetConfig, prepared: PreparedDataset) -> str:
    manifest = prepared.manifest
    how = "was prepared already" if prepared.reused else f"took {manifest.seconds:,.1f} s"
    dropped = f"{manifest.duplicate_documents:,} duplicates and {manifest.empty_documents:,} empty documents dropped"
    return f"{dataset.name}: {how}; {dropped}\n{format_counts(prepared.counts)}\n  {prepared.blend_path}"


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    prepare = commands.add_parser("prepare", help="prepare the dataset of a resolved config")
    prepare.add_argument("config", type=Path, help="a config.yaml as resolved")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
