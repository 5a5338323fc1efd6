"""Checks of what is handed on to SLURM's and a container's commands word by word: options and lines of the script.

Pure functions of the config. An option is known by every form that the command takes: `--array=0`, `--arr 0`, `-a0`,
and `-Ha0` behind a flag.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from qad_core.config.problems import Problem
from qad_core.config.schema import ClusterConfig, ContainerConfig

OWNED_OPTIONS = frozenset(
    {
        "--account", "-A", "--array", "-a", "--chdir", "-D", "--clusters", "--cluster", "-M", "--comment",
        "--cpus-per-task", "-c", "--dependency", "-d", "--error", "-e", "--exclusive", "--export", "--gpus-per-node",
        "--help", "-h", "--ignore-pbs", "--job-name", "-J", "--kill-on-invalid-dep", "--mem", "--nodes", "-N",
        "--no-requeue", "--ntasks", "-n", "--ntasks-per-node", "--open-mode", "--output", "-o", "--parsable",
        "--partition", "-p", "--qos", "-q", "--requeue", "--signal", "--test-only", "--time", "-t", "--usage",
        "--version", "-V", "--wait", "-W", "--wrap",
    }
)  # fmt: skip
"""Options of sbatch that fields of the config set, or that a chain leans on."""
OWNED_BY_STEP = frozenset(
    {
        "--container-image", "--cpus-per-task", "-c", "--error", "-e", "--export", "--help", "-h", "--jobid",
        "--kill-on-bad-exit", "-K", "--label", "-l", "--mpi", "--nodes", "-N", "--ntasks", "-n", "--ntasks-per-node",
        "--output", "-o", "--pty", "--signal", "--time", "-t", "--usage", "--version", "-V", "--wait", "-W",
    }
)  # fmt: skip
"""Options of srun that the start of the ranks leans on."""
_WHOLE = frozenset({"--gpus", "--container"})
"""Options of their own that another one begins with."""
_FLAGS = frozenset("HIkOQsvX")
"""Short options without a value, behind which another may stand."""
_MAGIC = re.compile(r"\s*#(SBATCH|PBS|BSUB)\b")
_EXTRA = "cluster.slurm.extra_options"
_CONTAINER = "cluster.container.options"


def check_options(cluster: ClusterConfig) -> Iterator[Problem]:
    """Problems of cluster.slurm.extra_options, cluster.slurm.setup and cluster.container.options."""
    for option in cluster.slurm.extra_options:
        yield from _check_extra(option)
    for number, line in enumerate(cluster.slurm.setup, 1):
        if found := _MAGIC.match(line):
            what = f"setup line {number} is an option of the job (#{found[1]}), which would overrule the config's own"
            yield Problem(what, "cluster.slurm.setup", f"Write it in {_EXTRA}, where there is no field for it.")
    yield from _check_container(cluster.container)


def owned_option(word: str, owned: frozenset[str]) -> str | None:
    """The option among `owned` that a word of a command line sets; None where it sets none of them."""
    if word.startswith("--"):
        name = word.partition("=")[0]
        if name in owned or name in _WHOLE or name == "--":
            return name if name in owned or name == "--" else None
        return min((option for option in owned if option.startswith(name)), default=None)
    for letter in word[1:] if word.startswith("-") else "":
        if f"-{letter}" in owned:
            return f"-{letter}"
        if letter not in _FLAGS:
            return None
    return None


def _check_extra(option: str) -> Iterator[Problem]:
    try:
        words = shlex.split(option)
    except ValueError:
        yield Problem(f"{option!r} has a quote that does not end", _EXTRA, "Close it, or leave it out.")
        return
    if not words or not words[0].startswith("-"):
        yield Problem(f"{option!r} is no option of sbatch", _EXTRA, "Write it as after #SBATCH: --reservation=NAME.")
        return
    for word in words:
        if name := owned_option(word, OWNED_OPTIONS):
            what = f"{option!r} would overrule what the config or the chain sets ({name})"
            hint = "Use the field of cluster, cluster.slurm or train that sets it, or an argument of submit."
            yield Problem(what, _EXTRA, hint)
            return


def _check_container(container: ContainerConfig) -> Iterator[Problem]:
    """Each is one word of the command; one that is neither an option nor its value would be taken for the command."""
    takes_value = False
    for option in container.options if container.runtime != "none" else ():
        name = owned_option(option, OWNED_BY_STEP) if container.runtime == "pyxis" else None
        if not option.strip() or not (option.startswith("-") or takes_value) or option in ("-", "--"):
            command = "srun" if container.runtime == "pyxis" else "apptainer exec"
            hint = "Write one option an item, as one word: --container-name=NAME."
            yield Problem(f"container option {option!r} is no option of {command}", _CONTAINER, hint)
        elif name is not None and option.startswith("-"):
            what = f"container option {option!r} would overrule how the ranks are started ({name})"
            yield Problem(what, _CONTAINER, "Use the field of cluster or cluster.container that sets it.")
        takes_value = container.runtime == "apptainer" and option.startswith("-") and "=" not in option
