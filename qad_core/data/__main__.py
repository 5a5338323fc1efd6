"""`python -m qad_core.data prepare CONFIG_YAML`: prepare the dataset of a resolved config.

Prints what is written while it works and a table at the end. Errors are caught here, once: a `QadError`
becomes its message and exit code; so does what the system refuses, a full disk with 4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from qad_core.config.conf_samples import SCRIPT_SAMPLES
from qad_core.config.data_paths import dataset_blend_path, prepared_blend_path
from qad_core.config.load import read_resolved
from qad_core.config.paths import resolve_tokenizer, resolve_weights
from qad_core.config.schema import RunConfig
from qad_core.data.blend import SPLITS, Split, read_blend
from qad_core.data.manifest import SourceCounts, SplitCounts
from qad_core.data.prepare import PreparedDataset, prepare_dataset
from qad_core.errors import ExitCode, QadError, explain_os_error
from qad_core.models.tokenizer import Tokenizer, load_tokenizer
from qad_core.run.show import count_of


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


def format_counts(counts: Mapping[Split, SplitCounts], sequence_length: int) -> str:
    """One line a split: documents, tokens, and the packed sequences that a run draws its samples from."""
    rows = [
        f"  {split:<6}{counts[split].documents:>12,} documents{counts[split].tokens:>16,} tokens"
        f"{count_sequences(counts[split].tokens, sequence_length):>12,} sequences of {sequence_length:,} tokens"
        for split in SPLITS
    ]
    return "\n".join(rows)


def count_sequences(tokens: int, sequence_length: int) -> int:
    """Packed sequences in so many tokens; the labels of the last one take a token more."""
    return max(tokens - 1, 0) // sequence_length


def _prepare(config: RunConfig) -> None:
    dataset = config.dataset
    if dataset.blend is not None:
        blend_path = dataset_blend_path(dataset, config.model, config.paths)
        read_blend(blend_path)
        print(f"{dataset.name}: the datablend {blend_path} is there; nothing to prepare")
        return
    out_dir = prepared_blend_path(dataset, config.model, config.paths).parent
    print(f"{dataset.name}: preparing into {out_dir}", flush=True)
    prepared = prepare_dataset(dataset, _load_tokenizer(config), out_dir, tell=_print_line)
    print(_summarize(config, prepared))


def _load_tokenizer(config: RunConfig) -> Tokenizer:
    models_root = config.paths.models_root
    return load_tokenizer(resolve_tokenizer(config.model, models_root), resolve_weights(config.model, models_root))


def _print_line(line: str) -> None:
    print(line, flush=True)


def _summarize(config: RunConfig, prepared: PreparedDataset) -> str:
    manifest, name = prepared.manifest, config.dataset.name
    how = "was prepared already" if prepared.reused else f"took {manifest.seconds:,.1f} s"
    lines = [f"{name}: {how}"]
    lines += [_describe_source(source_name, source) for source_name, source in manifest.sources.items()]
    lines.append(format_counts(prepared.counts, config.train.sequence_length))
    lines.append(_describe_epochs(config, prepared.counts["train"]))
    return "\n".join([*lines, f"  {prepared.blend_path}"])


def _describe_source(name: str, source: SourceCounts) -> str:
    """What a source gave, and what was left of it."""
    documents = sum(split.documents for split in source.splits.values())
    return (
        f"  {name}: {count_of(source.records, 'record')} read, {source.left_out:,} not in the sample, "
        f"{source.bad_records:,} bad, {source.empty_documents:,} empty, "
        f"{count_of(source.duplicate_documents, 'duplicate')}; {count_of(documents, 'document')} kept"
    )


def _describe_epochs(config: RunConfig, train: SplitCounts) -> str:
    """The run's samples as epochs, and what the scripts, which counted documents, took for samples."""
    length, samples = config.train.sequence_length, config.train.train_samples
    sequences = count_sequences(train.tokens, length)
    epochs = f", {samples / sequences:,.2f} epochs" if sequences else ""
    line = f"  {samples:,} samples (train.train_samples) are {samples * length:,} tokens{epochs}"
    scripts = SCRIPT_SAMPLES.get(config.dataset.name)
    return line if scripts is None else f"{line}; the scripts took {scripts:,}, a count of documents"


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    prepare = commands.add_parser("prepare", help="prepare the dataset of a resolved config")
    prepare.add_argument("config", type=Path, help="a config.yaml as resolved")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
