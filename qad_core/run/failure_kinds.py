"""What a failure can be, and the words in a log or an exception by which each kind is known.

Owns the table and its order: the first kind whose words are there is the one. Sources of the words: PyTorch 2.13 and
megatron-core 0.16 (their exceptions), huggingface_hub, SLURM 22.05 (its messages), and issues of pyxis, enroot and
apptainer. Looking them up is `failure_words.py`, what to do about a kind is `failure_advice.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Weight(IntEnum):
    """How much a finding explains: a lower one is the cause of the higher ones."""

    CAUSE = 0
    """Nothing else need have gone wrong."""
    ENDED = 1
    """Somebody or something outside ended a process, mostly for a reason that is not in the logs."""
    LOST = 2
    """A rank waited for another in vain; a cause only where the other one said nothing."""
    NOTHING = 3
    """It only says that something failed."""


@dataclass(frozen=True)
class FailureKind:
    """One kind of failure."""

    name: str
    title: str
    """In plain words; `{name}` in it is the exception's class."""
    anywhere: tuple[str, ...] = ()
    """Patterns that mean it in any line."""
    raised: tuple[str, ...] = ()
    """Patterns that mean it in an exception or an error of ours, where the same words elsewhere may be harmless."""
    weight: Weight = Weight.CAUSE


KINDS: tuple[FailureKind, ...] = (
    FailureKind(
        "cuda_out_of_memory",
        "A GPU ran out of memory",
        (
            r"CUDA out of memory", r"CUDA error: out of memory", r"Cuda failure \d+ 'out of memory'",
            r"CUBLAS_STATUS_ALLOC_FAILED", r"\bOutOfMemoryError: ",
        ),
    ),
    FailureKind(
        "host_out_of_memory",
        "A node ran out of main memory",
        (
            r"\boom[-_ ]kill", r"task \d+.*Out Of Memory", r"DefaultCPUAllocator", r"Exceeded \w+ memory limit",
            r"^MemoryError\b", r"DataLoader worker .* killed by signal: Killed",
        ),
        (r"\bMemoryError\b", r"Cannot allocate memory", r"memory ran out"),
    ),
    FailureKind(
        "rate_limited",
        "Hugging Face refused further requests (HTTP 429)",
        (r"\b429 (?:Client Error|Too Many Requests)", r"We had to rate limit"),
    ),
    FailureKind(
        "container",
        "The container could not be started",
        (
            r"pyxis: .*(?:couldn't|could not|failed|unable to|\[ERROR\])", r"spank_pyxis\S* \w+\(\) failed",
            r"enroot\b.*\[ERROR\]", r"failed to import docker image", r"No such file or directory: \S+\.(?:sqsh|sif)\b",
            r"^FATAL: {2,}", r"enroot\S*: ", r"unrecognized option '--container", r"apptainer: command not found",
            r"execve\(\): apptainer",
        ),
    ),
    FailureKind(
        "gated_model",
        "A model may not be downloaded",
        (r"\b40[13] (?:Client Error|Unauthorized|Forbidden)", r"gated repo\b", r"(?:Gated|RepositoryNotFound)\w*Error"),
    ),
    FailureKind(
        "shape_mismatch",
        "The weights do not have the shapes of the model",
        (
            r"size mismatch for ", r"shapes cannot be multiplied", r"[Ss]hape mismatch", r"copying a param with shape",
            r"size of tensor a \(\d+\) must match the size of tensor b", r"invalid for input of size",
        ),
    ),
    FailureKind("walltime", "The time limit was reached", (r"DUE TO TIME LIMIT",)),
    FailureKind(
        "node_failure",
        "A node failed",
        (r"DUE TO NODE FAILURE", r"error: Node failure on", r"error: .*Node \S+ is down"),
    ),
    FailureKind("preemption", "The job was preempted", (r"DUE TO PREEMPTION",)),
    FailureKind(
        "disk_full",
        "A disk is full",
        (r"No space left on device", r"Disk quota exceeded", r"\[Errno (?:28|122)\]"),
    ),
    FailureKind(
        "gpu_fault",
        "A GPU failed",
        (
            r"uncorrectable ECC", r"GPU has fallen off the bus", r"\bXid \(PCI", r"no CUDA-capable device is detected",
            r"CUDA error: (?:unspecified launch failure|unknown error|hardware|uncorrectable)",
            r"CUDA driver initialization failed", r"CUDA-capable device\(s\) is/are busy",
        ),
    ),
    FailureKind(
        "cuda_error",
        "A computation on a GPU failed",
        (r"CUDA error: ", r"device-side assert", r"CUBLAS_STATUS_\w+", r"CUDNN_STATUS_\w+"),
    ),
    FailureKind(
        "missing_package",
        "A Python package is missing",
        (r"^\S*python[\d.]*: No module named",),
        (r"\b(?:ModuleNotFoundError|ImportError)\b", r"No module named", r"cannot open shared object file"),
    ),
    FailureKind(
        "port_taken",
        "The port where the ranks meet is taken",
        (),
        (r"[Aa]ddress already in use", r"EADDRINUSE", r"The port \d+ is taken"),
    ),
    FailureKind(
        "diverged",
        "The loss diverged",
        (),
        (r"loss or gradient was not finite", r"found (?:NaN|Inf|inf|nan) in (?:local )?(?:grad|forward|the loss|loss)"),
    ),
    FailureKind(
        "collective_timeout",
        "The ranks waited for each other in vain",
        (
            r"Watchdog caught collective operation timeout", r"detected by watchdog", r"[Ww]atchdog got stuck",
            r"watchdog thread terminated", r"entire process down",
        ),
        (
            r"Timed out waiting \d+ms for", r"Timeout at NCCL work", r"[Ww]ait timeout after \d+ms",
            r"Application timeout",
        ),
        Weight.LOST,
    ),
    FailureKind(
        "rendezvous",
        "The ranks did not meet",
        (),
        (
            r"did not meet the others", r"Nothing listens at", r"client socket has", r"gai error",
            r"timed out waiting for clients", r"\bDist(?:Network|Store)Error\b",
        ),
        Weight.LOST,
    ),
    FailureKind(
        "no_network",
        "A download found no network",
        (),
        (
            r"Name or service not known", r"Temporary failure in name resolution", r"Network is unreachable",
            r"Max retries exceeded with url", r"ConnectTimeout", r"LocalEntryNotFoundError", r"We couldn't connect to",
            r"OfflineModeIsEnabled", r"outgoing traffic has been disabled",
        ),
    ),
    FailureKind(
        "connection_lost",
        "A rank lost its connection to the others",
        (r"terminate called after throwing an instance of 'c10::Dist",),
        (
            r"Connection closed by peer", r"[Cc]onnection reset by peer", r"Connection(?:Reset|Refused|Aborted)Error",
            r"Broken ?[Pp]ipe", r"[Cc]onnection refused", r"nccl(?:Remote|System|Internal)Error", r"NCCL error",
            r"remote process exiting prematurely", r"\bDist(?:Backend)?Error\b", r"Socket closed",
        ),
        Weight.LOST,
    ),
    FailureKind(
        "missing_file",
        "A file is missing",
        (r"can't open file '.*': \[Errno 2\]", r"execve\(\).*No such file or directory"),
        (
            r"\b(?:FileNotFound|NotADirectory)Error\b", r"No such file or directory", r"paths that are not there",
            r"there (?:are no weights|is no tokenizer) at",
        ),
    ),
    FailureKind(
        "permission_denied",
        "A file or folder may not be used",
        (r"execve\(\).*Permission denied",),
        (r"\bPermissionError\b", r"Permission denied", r"Read-only file system", r"Operation not permitted"),
    ),
    FailureKind(
        "cancelled",
        "The job was cancelled",
        (r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+ (?:\*\*\*|DUE to SIGNAL)",),
        (),
        Weight.ENDED,
    ),
    FailureKind(
        "killed",
        "A rank was killed",
        (r"\(SIGKILL\)", r"exitcode *: -9\b", r"^\S+: line \d+: +\d+ Killed\b"),
        (r"was killed by SIGKILL",),
        Weight.ENDED,
    ),
    FailureKind(
        "unknown",
        "The job failed, and its logs do not say why",
        (
            r"task \d+.*: (?:Terminated|Killed|Exited with exit code|Aborted)", r"Fatal Python error: Aborted",
            r"\(SIGABRT\)",
        ),
        (
            r"ended with exit code", r"was ended by SIG(?:TERM|INT|HUP|ABRT|USR1)", r"\bKeyboardInterrupt\b",
            r"\bSystemExit\b", r"\b(?:ChildFailed|Signal)(?:Error|Exception)\b", r"could not be prepared$",
        ),
        Weight.NOTHING,
    ),
    FailureKind(
        "crash",
        "A rank crashed",
        (
            r"Fatal Python error: ", r"[Ss]egmentation fault", r"\bSIG(?:SEGV|BUS|ILL|FPE)\b", r"Bus error",
            r"core dumped",
        ),
    ),
)  # fmt: skip
"""In the order of trial: the more telling words first, and SLURM's `Killed` before a crash."""

PYTHON_EXCEPTION = FailureKind("python_exception", "The program raised {name}")
DEADLINE = FailureKind("deadline", "The job's deadline has passed")
UNWRITABLE_OUTPUT = FailureKind("unwritable_output", "SLURM could not write the job's log")
OWN_KINDS: tuple[FailureKind, ...] = (
    FailureKind("outside", "Something outside failed", raised=(r"the system failed", r"could not be written")),
    FailureKind(
        "data", "The data cannot be used", raised=(r"\b(?:datablend|token file|record|document|jsonl|tokens)\b",)
    ),
    FailureKind(
        "model", "The model cannot be used", raised=(r"\b(?:weights|tokenizer|checkpoint|safetensors|model)\b",)
    ),
    FailureKind("run_folder", "The run folder cannot be used", raised=(r"[Tt]he run\b", r"holds no fingerprint")),
    FailureKind("config", "The config cannot be used"),
)  # fmt: skip
"""Of our own errors, which carry their advice with them: the first whose words are there, else the last."""
