"""What to do about each kind of failure, in sentences.

Pure. Sources: the troubleshooting of the scripts that this product replaces, and what each field of the config does.
The overrides that carry it out are `failure_changes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from qad_core.config.schema import RunConfig
from qad_core.run.failure_changes import Situation, may_ask_for_more_memory
from qad_core.run.memory_steps import next_memory_step


def advise(kind: str, situation: Situation) -> tuple[str, ...]:
    """What to do, the most likely first."""
    first = situation.waited_for or _memory_advice(kind, situation.config)
    return (*([first] if first else []), *_ADVICE.get(kind, _NO_ADVICE))


def _memory_advice(kind: str, config: RunConfig | None) -> str:
    """What the change of the config does, where it is one that needs less memory."""
    if config is None or kind not in ("cuda_out_of_memory", "host_out_of_memory", "killed"):
        return ""
    step = None if kind != "cuda_out_of_memory" and may_ask_for_more_memory(config) else next_memory_step(config)
    return step.advice if step else ""


_NO_ADVICE = ("Read the log around these lines, and what the other ranks printed.",)
_ADVICE: Mapping[str, tuple[str, ...]] = {
    "cuda_out_of_memory": (
        "What needs less memory, in this order: train.micro_batch_size=1, train.recompute=full, for a mixture of "
        "experts a larger parallelism.expert_model_parallel_size (more nodes), a larger "
        "parallelism.tensor_model_parallel_size, a smaller distillation.chunk_tokens. None changes what a run learns.",
    ),
    "host_out_of_memory": (
        "In a SLURM job, ask for all of a node's memory: cluster.slurm.memory=0.",
        "On a machine without SLURM, take fewer ranks or a smaller train.micro_batch_size.",
    ),
    "rate_limited": (
        "Export HF_TOKEN in the shell before `qad_core submit` or `qad_core train`: with a token the limit is higher. "
        "Never write it into a command, a config or a script.",
        "Or wait some minutes, or fetch the model once and name its folder in model.weights.",
    ),
    "gated_model": (
        "Accept the model's licence on its Hugging Face page, and export HF_TOKEN of that account before "
        "`qad_core submit` or `qad_core train`. Never write it into a command, a config or a script.",
        "If the model is not gated, correct its name: a name that is not there is refused in the same words.",
    ),
    "no_network": (
        "Compute nodes often have no way to the internet: fetch the model on the login node and name its folder in "
        "model.weights and model.tokenizer.",
    ),
    "shape_mismatch": (
        "Take the shape from the config.json beside the weights: model.architecture=null.",
        "Look at the grouped-query attention first: Qwen3-30B-A3B has num_query_groups: 4 and kv_channels: 128.",
        "The teacher's shape must be that of its own weights: see model.teacher_weights.",
        "A run folder that holds checkpoints of another shape is refused: start over with --fresh or another --tag.",
    ),
    "missing_file": (
        "Correct the path; a relative one starts at the folder of the command, and weights at paths.models_root.",
        "In a container only what cluster.container.mounts names is there.",
    ),
    "permission_denied": (
        "Let the user of the job read and write it, or name another place (paths.checkpoint_root, paths.data_cache).",
    ),
    "container": (
        "See that cluster.container.image is there and can be read from the compute nodes: a file on a shared disk, or "
        "an image of a registry that they reach.",
        "See that each folder in cluster.container.mounts is there on every node, and that the cache of enroot or "
        "apptainer has space.",
    ),
    "walltime": (
        "Go on in further jobs: `qad_core submit RUN --links N`. The next link starts from the newest checkpoint.",
        "Save more often (checkpoint.interval), and leave more time for the save "
        "(cluster.slurm.stop_seconds_before_limit).",
    ),
    "deadline": ("Submit it again without a deadline, or with a shorter cluster.slurm.time_limit.",),
    "node_failure": (
        "Submit again: it goes on from the newest checkpoint. With cluster.slurm.requeue=true SLURM does so by itself.",
        "If the same node fails again, leave it out with --exclude in cluster.slurm.extra_options, and report it.",
    ),
    "preemption": (
        "Submit again: it goes on from the newest checkpoint. With cluster.slurm.requeue=true SLURM does so by itself.",
        "A partition or a QOS of higher priority is not preempted (cluster.slurm.partition, cluster.slurm.qos).",
    ),
    "cancelled": ("Somebody cancelled it. Submit again: it goes on from the newest checkpoint.",),
    "disk_full": (
        "Free some space or quota and start again: it goes on from the newest checkpoint.",
        "Keep fewer checkpoints (checkpoint.keep_last), or put runs on a larger disk (paths.checkpoint_root).",
    ),
    "port_taken": ("Have a free port chosen: cluster.master_port=0.",),
    "diverged": (
        "Look at the data of these steps, and skip them with train.iterations_to_skip.",
        "If it happens again elsewhere, take a lower train.learning_rate; that is another run, in a folder of its own.",
    ),
    "missing_package": (
        "Use the Python that has the trainer: cluster.container.python names it for a job.",
        "Set it up before the start in cluster.slurm.setup (`module load ...`, `source .../activate`), or install the "
        "package there: pip install 'qad[train]'.",
    ),
    "unwritable_output": (
        "See that the folder of the job's logs is there, and that your user can write to it from the compute nodes: "
        "paths.checkpoint_root must be on a shared disk.",
    ),
    "collective_timeout": (
        "The rank that stopped first is the cause: look for the one whose log ends before the others'.",
        "If it was only slow (a long save, data on a slow disk), allow more time: train.distributed_timeout_minutes.",
        "If no rank stopped, suspect the network: name the right interface by `export NCCL_SOCKET_IFNAME=...` in "
        "cluster.slurm.setup.",
    ),
    "rendezvous": (
        "See the first rank's log: a rank that ends before it meets the others is the cause.",
        "If all of them waited, the first node's name or port is not reached from the others: look at a firewall, and "
        "at the interface (`export NCCL_SOCKET_IFNAME=...` in cluster.slurm.setup).",
    ),
    "connection_lost": (
        "A rank ended without a word: look for the one whose log ends first. Most often its node ran out of memory.",
        "If none did, suspect the network between the nodes.",
    ),
    "killed": (
        "Most often the node's memory ran out: ask for all of it (cluster.slurm.memory=0), or take a smaller "
        "train.micro_batch_size.",
        "Otherwise somebody ended it; start again, it goes on from the newest checkpoint.",
    ),
    "crash": (
        "See that torch and the GPU's driver fit together: `qad_core doctor`.",
        "A bus error is often a full /dev/shm: give the container more of it.",
    ),
    "gpu_fault": (
        "Leave the node out with --exclude in cluster.slurm.extra_options, report it, and submit again: it goes on "
        "from the newest checkpoint.",
    ),
    "cuda_error": (
        "Start once more with CUDA_LAUNCH_BLOCKING=1: the traceback then names the operation that failed.",
        "Token numbers beyond the vocabulary are the most frequent reason: see that the tokenizer is the model's own.",
    ),
    "python_exception": (
        "The last frame says where. If it is in qad_core, it is a bug of this program: report it with the log.",
    ),
}
