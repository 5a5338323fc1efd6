"""Checks of what a SLURM cluster is asked for, and of what its job's command runs in.

Pure functions of the config. What only the cluster knows, such as its partitions, SLURM is asked at the
submission.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from qad_core.config.checks_options import check_options
from qad_core.config.problems import Problem
from qad_core.config.schema import ClusterConfig, RunConfig
from qad_core.run.show import count_of

_SECRET_VALUE = re.compile(r"hf_[A-Za-z0-9]{16,}|Bearer\s+\S{16,}")
_SECRET_SETTING = re.compile(
    r"\b(\w*(?:TOKEN(?!IZER|S\b)|SECRET|PASSWORD|API_KEY)\w*)=(?!\s|$|[\"']?\$)", re.IGNORECASE
)
EARLIEST_SIGNAL_SECONDS = 60
"""So much earlier than asked for SLURM may send its signal (man sbatch, --signal)."""


def check_slurm(config: RunConfig) -> Iterator[Problem]:
    """Problems of a SLURM cluster's part of the config; none for another kind."""
    if config.cluster.kind != "slurm":
        return
    yield from _check_time(config)
    yield from _check_gpus(config.cluster)
    yield from _check_lines(config.cluster)
    yield from check_options(config.cluster)
    yield from _check_account(config.cluster.slurm.account)
    yield from _check_container(config)
    yield from _check_log_folder(config)


def _check_time(config: RunConfig) -> Iterator[Problem]:
    slurm, minutes = config.cluster.slurm, config.train.exit_duration_minutes
    limit, stop = slurm.time_limit_seconds, slurm.stop_seconds_before_limit
    keys = "cluster.slurm.stop_seconds_before_limit, cluster.slurm.time_limit"
    if stop + EARLIEST_SIGNAL_SECONDS >= limit:
        what = (
            f"the walltime {slurm.time_limit} leaves no time to train: SLURM's signal comes {stop} s before it"
            f" (stop_seconds_before_limit) or up to {EARLIEST_SIGNAL_SECONDS} s earlier"
        )
        yield Problem(what, keys, "Take a longer walltime, or less time to save in.")
    if minutes is not None and 60 * minutes > limit - stop:
        what = f"exit_duration_minutes {minutes:g} is past the stop {stop} s before the walltime {slurm.time_limit}"
        hint = "Leave it out: SLURM's signal before the walltime makes the trainer save."
        yield Problem(what, f"train.exit_duration_minutes, {keys}", hint)


def _check_gpus(cluster: ClusterConfig) -> Iterator[Problem]:
    if cluster.device != "cpu" and 0 < cluster.gpus_per_node < cluster.processes_per_node:
        what = f"{cluster.processes_per_node} ranks a node, but {count_of(cluster.gpus_per_node, 'GPU')} asked for"
        yield Problem(what, "cluster.processes_per_node, cluster.slurm.gpus_per_node", "Take one GPU a rank.")
    if cluster.device == "cuda" and cluster.gpus_per_node == 0:
        what = "device is cuda, but no GPU is asked for"
        yield Problem(what, "cluster.device, cluster.slurm.gpus_per_node", "Leave gpus_per_node out: one a rank.")


def _check_lines(cluster: ClusterConfig) -> Iterator[Problem]:
    """The lines that are written into the script as they stand."""
    written = (
        ("cluster.slurm.setup", cluster.slurm.setup),
        ("cluster.slurm.extra_options", cluster.slurm.extra_options),
        ("cluster.container.options", cluster.container.options),
    )
    for where, lines in written:
        key = where.rpartition(".")[2]
        for number, line in enumerate(lines, 1):
            if (setting := _SECRET_SETTING.search(line)) or _SECRET_VALUE.search(line):
                name = setting[1] if setting else "a token"
                what = f"{key} line {number} writes {name} into the batch script, which SLURM shows and keeps"
                yield Problem(what, where, "Export it in the shell that submits: a job gets its environment.")


def _check_account(account: str | None) -> Iterator[Problem]:
    """It is the first part of the job's name, and so of its logs'."""
    if account is not None and re.search(r"[/%\s\\\"']", account):
        what = f"account {account!r} cannot be part of a log's name"
        yield Problem(what, "cluster.slurm.account", "Write it as sacctmgr shows it: one word without / and %.")


def _check_container(config: RunConfig) -> Iterator[Problem]:
    container = config.cluster.container
    if container.runtime == "none":
        if container.image:
            what = f"container.image is {container.image}, but container.runtime is none"
            yield Problem(what, "cluster.container.runtime, cluster.container.image", "Set it to pyxis or apptainer.")
        return
    if not container.image:
        what = f"container.runtime is {container.runtime}, but there is no image"
        yield Problem(what, "cluster.container.image", "Name it: cluster.container.image=PATH (CONTAINER_IMAGE).")
    for name, folder in _folders_of(config):
        if not any(_reaches(mount, folder) for mount in container.mounts):
            what = f"{name} {folder} is in no mount of the container, or under another path inside"
            hint = f"Add {folder}:{folder} or a folder above it (CONTAINER_MOUNTS)."
            yield Problem(what, f"cluster.container.mounts, {name}", hint)


def _folders_of(config: RunConfig) -> Iterator[tuple[str, Path]]:
    yield "paths.checkpoint_root", config.paths.checkpoint_root
    yield "paths.data_cache", config.paths.data_cache
    if config.dataset.blend is not None:
        yield "dataset.blend", Path(config.dataset.blend)


def _reaches(mount: str, folder: Path) -> bool:
    """Whether a HOST[:CONTAINER[:FLAGS]] mount holds a folder under the same path inside as outside."""
    host, _, rest = mount.partition(":")
    inside = rest.partition(":")[0] or host
    return host == inside and folder.is_relative_to(host)


def _check_log_folder(config: RunConfig) -> Iterator[Problem]:
    """SLURM fills in % in the names of logs, and has no way to write a plain one."""
    root = config.paths.checkpoint_root
    if re.search(r"[%\\\n\"']", str(root)):
        what = f"checkpoint_root {str(root)!r} holds a %, a quote or a backslash, which SLURM reads in its own way"
        yield Problem(what, "paths.checkpoint_root", "Take another folder.")
