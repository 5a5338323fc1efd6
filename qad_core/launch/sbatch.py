"""The text of a run's batch script, from the config alone: what `--dry-run` prints is what sbatch gets.

Every link of a chain runs the same script; what differs, the token of the submission and its dependency, is
in sbatch's arguments and environment. Secrets are in neither: they are the job's environment.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.schema import ContainerConfig, RunConfig
from qad_core.run.folder import RunFolder

FIRST_PORT, PORTS = 10000, 20000
"""Ports derived from job ids: below those that the kernel hands out by itself (from 32768 on)."""


@dataclass(frozen=True)
class BatchJob:
    """What a script is made of beside the config."""

    folder: RunFolder
    chain: str
    """Token of the chain."""
    stamp: str
    """Date and time in the logs' names."""
    working_directory: Path

    @property
    def script(self) -> Path:
        """Where the script is kept."""
        return self.folder.slurm / f"{self.chain}.sh"

    @property
    def job_ids(self) -> Path:
        """File with the job id of each link of the chain, one a line."""
        return self.folder.slurm / f"{self.chain}.jobs"


def job_name(config: RunConfig) -> str:
    """Name of all jobs of a run, so that --dependency=singleton keeps them apart: ACCOUNT-RUN, as the scripts' logs."""
    account = config.cluster.slurm.account
    return f"{account}-{config.run_name}" if account else config.run_name


def log_paths(config: RunConfig, job: BatchJob) -> tuple[Path, Path]:
    """Logs of what the script prints on stdout and on stderr, below CHECKPOINT_ROOT/logs_slurm; %j is the job id."""
    folder = config.paths.checkpoint_root / "logs_slurm"
    name = f"{job_name(config)}_%j_{job.stamp}.log"
    return folder / name, folder / f"err_{name}"


def make_script(config: RunConfig, job: BatchJob) -> str:
    """The whole script."""
    options = "\n".join(f"#SBATCH {option}" for option in batch_options(config, job))
    setup = "\n".join(config.cluster.slurm.setup)
    run = job.folder.slurm
    return _SCRIPT.format(
        run_name=config.run_name,
        options=options,
        setup=f"\n# cluster.slurm.setup\n{setup}\n" if setup else "",
        chain=job.chain,
        slurm_folder=shlex.quote(str(run)),
        port=config.cluster.master_port or f"$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))",
        command=" \\\n  ".join(step_command(config, job.folder)),
        requeue=_REQUEUE if config.cluster.slurm.requeue else "",
    )


def batch_options(config: RunConfig, job: BatchJob) -> list[str]:
    """The #SBATCH options in order."""
    cluster, slurm = config.cluster, config.cluster.slurm
    output, error = log_paths(config, job)
    gpus = f"{slurm.gpu_type}:{cluster.gpus_per_node}" if slurm.gpu_type else str(cluster.gpus_per_node)
    asked = {
        "--job-name": job_name(config),
        "--nodes": str(cluster.nodes),
        "--ntasks-per-node": "1",
        "--partition": slurm.partition,
        "--account": slurm.account,
        "--qos": slurm.qos,
        "--time": slurm.time_limit,
        "--gpus-per-node": gpus if cluster.gpus_per_node else None,
        "--cpus-per-task": None if slurm.cpus_per_task is None else str(slurm.cpus_per_task),
        "--mem": slurm.memory,
        "--signal": f"B:USR1@{slurm.stop_seconds_before_limit}" if slurm.stop_seconds_before_limit else None,
        "--open-mode": "append",
        "--output": str(output),
        "--error": str(error),
        "--chdir": str(job.working_directory),
    }
    options = [f"{name}={shlex.quote(value)}" for name, value in asked.items() if value]
    flags = ["--requeue" if slurm.requeue else "--no-requeue", *(["--exclusive"] if slurm.exclusive else [])]
    return [*options, *flags, *slurm.extra_options]


def step_command(config: RunConfig, folder: RunFolder) -> list[str]:
    """The srun that starts one launcher a node, a line an option, quoted for the shell."""
    slurm, container = config.cluster.slurm, config.cluster.container
    srun = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=0", "--export=ALL", "--mpi=none", "--label"]
    if slurm.cpus_per_task is not None:
        srun.append(f"--cpus-per-task={slurm.cpus_per_task}")  # since 22.05 srun takes it no more from sbatch
    inside = [job_python(container), "-m", "qad_core.launch", str(folder.path)]
    if container.runtime == "pyxis":
        srun += _pyxis_options(container)
    elif container.runtime == "apptainer":
        inside = [*_apptainer(container, gpus=config.cluster.gpus_per_node > 0), *inside]
    return [*(shlex.quote(word) for word in srun), shlex.join(inside)]


def job_python(container: ContainerConfig) -> str:
    """The Python that has qad_core inside the job."""
    return container.python or (sys.executable if container.runtime == "none" else "python3")


def _pyxis_options(container: ContainerConfig) -> list[str]:
    options = [f"--container-image={container.image}"]
    if container.mounts:
        options.append(f"--container-mounts={','.join(container.mounts)}")
    if container.workdir:
        options.append(f"--container-workdir={container.workdir}")
    return [*options, *container.options]


def _apptainer(container: ContainerConfig, *, gpus: bool) -> list[str]:
    binds = [word for mount in container.mounts for word in ("--bind", mount)]
    workdir = ["--pwd", container.workdir] if container.workdir else []
    return [
        "apptainer",
        "exec",
        *(["--nv"] if gpus else []),
        *binds,
        *workdir,
        *container.options,
        str(container.image),
    ]


_REQUEUE = """\

# A preempted job that has saved in its time of grace has ended by itself, so SLURM does not start it again.
if [ "$code" -eq 3 ] && [ ! -s "$SLURM_FILES/$QAD_CHAIN.stop" ]; then
  preempted=$(scontrol show job "$SLURM_JOB_ID" -o | sed -n 's/.* PreemptTime=\\([^ ]*\\).*/\\1/p')
  if [ "${preempted:-None}" != None ]; then
    echo "$(now) job $SLURM_JOB_ID was preempted and has saved; it goes back into the queue"
    # SLURM then ends this script; where it does not take the job back, the next link goes on.
    scontrol requeue "$SLURM_JOB_ID" && sleep 300
  fi
fi
"""
_SCRIPT = """\
#!/bin/bash
# One link of the run {run_name}, written by `qad_core submit`; every link of the chain runs this script.
{options}

QAD_JOB_START=$(date +%s)
export QAD_JOB_START
{setup}
# Where the ranks meet: the first node, by its name or, where that has no address, by what SLURM knows.
QAD_NODES=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tr '\\n' ' ')
export QAD_NODES QAD_CHAIN={chain} SLURM_FILES={slurm_folder}
MASTER_ADDR=${{QAD_NODES%% *}}
if ! getent hosts "$MASTER_ADDR" >/dev/null; then
  MASTER_ADDR=$(scontrol show node "$MASTER_ADDR" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
fi
export MASTER_ADDR MASTER_PORT={port} NNODES=$SLURM_JOB_NUM_NODES
start=$QAD_SUBMISSION.$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}
now() {{ date '+%F %T'; }}
echo "$(now) job $SLURM_JOB_ID, start ${{SLURM_RESTART_COUNT:-0}}, on ${{QAD_NODES% }}; port $MASTER_PORT"

# SLURM signals this shell alone before the walltime: passed on, it makes the trainer save and exit 3. A SIGTERM
# it sends to the step by itself; srun would abort the step if it got ours as well.
step= signalled=
trap 'signalled=1; kill -USR1 "$step" 2>/dev/null' USR1
trap 'signalled=1' TERM

# NODE_RANK is SLURM_NODEID, which srun gives each task; a launch by hand may have left others in the environment.
unset NODE_RANK RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE
{command} &
step=$!
while :; do
  wait "$step"
  code=$?
  # A trapped signal ends the wait, not the step.
  if [ "$code" -le 128 ] || ! kill -0 "$step" 2>/dev/null; then break; fi
done
wait "$step"
again=$?
[ "$again" -eq 127 ] || code=$again

# The job's exit code is the training's, which the first node leaves; srun's own where it could not.
if [ -s "$SLURM_FILES/$start.exit" ]; then
  code=$(cat "$SLURM_FILES/$start.exit")
elif [ ! -e "$SLURM_FILES/$start.node0.here" ] && [ -z "$signalled" ] && [ "$code" -le 128 ]; then
  echo "the command did not start on the first node, see err_... beside this log" >"$SLURM_FILES/$QAD_CHAIN.stop"
fi
if [ -s "$SLURM_FILES/$QAD_CHAIN.stop" ]; then
  echo "$(now) the chain ends here: $(cat "$SLURM_FILES/$QAD_CHAIN.stop")"
  grep -vx "$SLURM_JOB_ID" "$SLURM_FILES/$QAD_CHAIN.jobs" | while read -r job; do
    scancel --state=PENDING "$job"
  done
fi
{requeue}echo "$(now) job $SLURM_JOB_ID ends with exit code $code"
exit "$code"
"""
