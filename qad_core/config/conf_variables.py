"""Variables of the scripts that no field of the config stands for, and why: one reason and one way on each.

Owns that list, and which variables are secrets. Variables that do become fields are in `environment.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.fields import nearest


class Reason(NamedTuple):
    """Why a variable is left out."""

    why: str
    """Follows "NAME is not carried over: "."""
    hint: str


_SHELL = "Export it in the shell that trains or submits, if it is needed: the ranks get its environment."
_NOTHING = "There is nothing to do."
_INSTALLED = Reason("the product uses the installed package, not a folder of sources", _NOTHING)
_RANK = Reason(
    "it says which machine this is, which differs on each",
    "Export it on each machine of a start by hand; a job of `qad_core submit` finds it out.",
)
_EXPERTS = Reason("whether a model has experts, and how they run, follows from its shape", _NOTHING)
_LATE = Reason("it overrode another variable in the script", "Write that variable itself, without the _ENV.")

NO_COUNTERPART: Mapping[str, Reason] = {
    "STUDENT_CONFIG_FILE": Reason(
        "the student's shape is read from the config.json beside its weights",
        "Put the model's config.json beside STUDENT_CKPT (model.weights), or write model.architecture.",
    ),
    "MLM_DIR": _INSTALLED,
    "MODELOPT_DIR": _INSTALLED,
    "IS_MOE": _EXPERTS,
    "ENABLE_MOE_PERF": _EXPERTS,
    "ENABLE_MOE_EXPERIMENTAL": _EXPERTS,
    "LOG_PARAMS_NORM": Reason("the norm of the parameters is not logged", "Watch grad_norm in the metrics."),
    "LOG_INTERVAL": Reason("every step is logged", _NOTHING),
    "LOG_DIR": Reason("SLURM's logs go to logs_slurm below paths.checkpoint_root", _NOTHING),
    "EVAL_ITERS": Reason(
        "an evaluation is counted in sequences here, not in batches", "Set evaluation.sequences to EVAL_ITERS x GBS."
    ),
    "LR_DECAY_SAMPLES": Reason(
        "the decay is a share of the samples here", "Set train.decay_fraction to LR_DECAY_SAMPLES / TRAIN_SAMPLES."
    ),
    "LR_WARMUP_SAMPLES": Reason(
        "the warm-up is a share of the samples here", "Set train.warmup_fraction to LR_WARMUP_SAMPLES / TRAIN_SAMPLES."
    ),
    "SAVE_RETAIN_INTERVAL": Reason(
        "the newest checkpoints are kept here, not one an interval", "Set checkpoint.keep_last to how many."
    ),
    "HF_MODEL_CKPT": Reason("it stood in for TOKENIZER_MODEL", "Write TOKENIZER_MODEL (model.tokenizer)."),
    "DISTILL_CONFIG_PATH": Reason("nothing in the scripts read it", _NOTHING),
    "MODEL_SHORT_NAME": Reason("it was a part of log files' names, which the run names now", _NOTHING),
    "STUDENT_MODEL_ENV": _LATE,
    "TEACHER_MODEL_ENV": _LATE,
    "NODE_RANK": _RANK,
    "MASTER_ADDR": _RANK,
}
"""Variable of the scripts -> why no field stands for it."""

READABLE = frozenset({"HOME", "USER", *ENVIRONMENT_KEYS})
"""Variables that a `.conf` may take from the environment."""

_PROCESS = re.compile(
    r"(CUDA|NCCL|NVTE|GLOO|UCX|UB|OMP|MKL|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|HF|TRANSFORMERS|TOKENIZERS|WANDB|SLURM)_\w+"
    r"|PATH|LD_LIBRARY_PATH|PYTHONPATH"
)
_SECRET = re.compile(r"TOKEN(?!IZ)|KEY|SECRET|PASSW|CREDENTIAL|AUTH(?!OR(?:_|$|ITY))|JWT", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a variable's value must be neither written nor shown."""
    return _SECRET.search(name) is not None and name not in ENVIRONMENT_KEYS


def reason_for(name: str) -> Reason | None:
    """Why a variable is left out; None where it is a setting or unknown."""
    if is_secret(name):
        return Reason("it is a secret", "Export it in your shell; take it out of the file.")
    if name in NO_COUNTERPART:
        return NO_COUNTERPART[name]
    return Reason("it sets up the process, not the run", _SHELL) if _PROCESS.fullmatch(name) else None


def unknown_reason(name: str) -> Reason:
    """What to say of a variable that nothing here knows."""
    near = nearest(name, [*ENVIRONMENT_KEYS, *NO_COUNTERPART])
    return Reason("it is no variable of the scripts", f"Did you mean {near}?" if near else _SHELL)
