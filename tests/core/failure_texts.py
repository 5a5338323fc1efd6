"""What programs print when they fail, as it was seen in logs and reports, and what kind of failure it is."""

from __future__ import annotations

from tests.core.failed_start import record, traceback_of

CUDA_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB. GPU 2 has a total capacity of 79.11 GiB "
    "of which 1.06 GiB is free. Including non-PyTorch memory, this process has 78.04 GiB memory in use. Of the "
    "allocated memory 74.20 GiB is allocated by PyTorch, and 2.10 GiB is reserved by PyTorch but unallocated."
)
HTTP_429 = (
    "httpx.HTTPStatusError: Client error '429 Too Many Requests' for url 'https://huggingface.co/Qwen/Qwen3-8B/resolve/"
    "main/config.json'\nFor more information check: https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/429"
)
GQA_MISMATCH = (
    "RuntimeError: Error(s) in loading state_dict for GPTModel:\n\tsize mismatch for decoder.layers.0.self_attention."
    "linear_qkv.weight: copying a param with shape torch.Size([5120, 2048]) from checkpoint, the shape in current "
    "model is torch.Size([12288, 2048])."
)
PORT = (
    "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: "
    "29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
)
PYXIS = (
    "slurmstepd: error: pyxis: child 27187 failed with error code: 1\n"
    "slurmstepd: error: pyxis: failed to import docker image\nslurmstepd: error: pyxis: printing enroot log file:\n"
    "slurmstepd: error: pyxis:     [ERROR] No such file or directory: /images/pytorch_25.06-py3.sqsh\n"
    "slurmstepd: error: pyxis: couldn't start container\n"
    "slurmstepd: error: spank: required plugin spank_pyxis.so: task_init() failed with rc=-1\n"
)
APPTAINER = (
    "FATAL:   could not open image /images/qad.sif: failed to retrieve path for /images/qad.sif: lstat "
    "/images/qad.sif: no such file or directory\n"
)
ENDED = "slurmstepd: error: *** JOB 15 ON node1 CANCELLED AT 2026-11-25T12:00:45{why} ***\n"
OOM_KILL = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=15.0. Some of the step tasks have been OOM Killed.\n"
    "srun: error: node2: task 1: Out Of Memory\n"
)
WORDS = [
    ("cuda_out_of_memory", traceback_of(CUDA_OOM), "Tried to allocate 2.32 GiB"),
    ("cuda_out_of_memory", record("failed: memory ran out: CUDA out of memory. Tried to allocate 2 GiB"), "2 GiB"),
    ("host_out_of_memory", OOM_KILL, "oom_kill event"),
    ("host_out_of_memory", "error: memory ran out: DefaultCPUAllocator: can't allocate memory\n", "can't allocate"),
    ("rate_limited", traceback_of(HTTP_429, "OSError: We couldn't connect to 'https://huggingface.co'"), "429 Too"),
    ("rate_limited", traceback_of("requests.HTTPError: 429 Client Error: Too Many Requests for url: https://h"), "429"),
    ("gated_model", traceback_of("huggingface_hub.errors.GatedRepoError: 401 Client Error."), "401"),
    ("no_network", traceback_of("httpx.ConnectError: [Errno -2] Name or service not known"), "Name or service"),
    ("shape_mismatch", traceback_of(GQA_MISMATCH), "linear_qkv"),
    ("shape_mismatch", traceback_of("RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), "mat1"),
    ("container", PYXIS, "/images/pytorch_25.06-py3.sqsh"),
    ("container", APPTAINER, "could not open image"),
    ("walltime", ENDED.format(why=" DUE TO TIME LIMIT"), "JOB 15 ON node1"),
    ("node_failure", ENDED.format(why=" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"), "NODE FAILURE"),
    ("preemption", ENDED.format(why=" DUE TO PREEMPTION"), "PREEMPTION"),
    ("cancelled", ENDED.format(why=""), "CANCELLED AT"),
    ("disk_full", traceback_of("OSError: [Errno 28] No space left on device: '/runs/iter_0000200'"), "iter_0000200"),
    ("port_taken", traceback_of(PORT), "29500"),
    ("diverged", record("failed: loss or gradient was not finite in steps 7 to 9; the state of step 6"), "7 to 9"),
    ("missing_package", "/usr/bin/python3: No module named qad_core\n", "No module named qad_core"),
    ("missing_package", traceback_of("ModuleNotFoundError: No module named 'megatron'"), "megatron"),
    ("missing_file", traceback_of("FileNotFoundError: [Errno 2] No such file or directory: '/data/a.json'"), "/data/a"),
    ("permission_denied", traceback_of("PermissionError: [Errno 13] Permission denied: '/runs'"), "/runs"),
    ("gpu_fault", traceback_of("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered"), "ECC"),
    ("cuda_error", traceback_of("RuntimeError: CUDA error: device-side assert triggered"), "device-side"),
    ("killed", "error: rank 2 was killed by SIGKILL\n  Most often memory ran out\n", "rank 2 was killed"),
    ("crash", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007 (most recent call first):\n", "fault"),
    ("data", "error: datablend /d.json holds a list, not an object\n  Write one.\n", "/d.json holds a list"),
    ("model", record("failed: /w/model.safetensors cannot be read: bad header; Fetch it again."), "bad header"),
    ("python_exception", traceback_of("ValueError: record 17 has no text"), "at /app/loader.py:12 in read"),
]  # fmt: skip
