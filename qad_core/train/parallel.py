"""This process's place in the run: device, dtype, process groups, seeds and threads.

Owns the choice of device and dtype, and the start and end of `torch.distributed` and of megatron-core's
parallel state. It builds no model and does not start processes: ranks come from torchrun's environment
(RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); without it this process is the only rank.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from torch._C._distributed_c10d import HashStore
from torch.distributed import ProcessGroup

from qad_core.config.schema import ParallelismConfig
from qad_core.errors import ConfigError, OutsideError
from qad_core.train.no_cuda import install_cpu_stand_ins

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class RankContext:
    """What one rank knows about itself; made by `initialize_parallel`, passed to whoever needs it."""

    rank: int
    """Among all ranks."""
    world_size: int
    local_rank: int
    """Among the ranks of this machine."""
    device: torch.device
    params_dtype: torch.dtype
    """Of weights and matrix products; optimizer states are float32."""

    @property
    def tensor_parallel_group(self) -> ProcessGroup:
        """Ranks that share each layer's weights."""
        return cast(ProcessGroup, parallel_state.get_tensor_model_parallel_group())

    @property
    def tensor_parallel_rank(self) -> int:
        """Which shard of each layer this rank holds."""
        return parallel_state.get_tensor_model_parallel_rank()

    @property
    def tensor_parallel_size(self) -> int:
        """Shards of each layer."""
        return parallel_state.get_tensor_model_parallel_world_size()

    @property
    def pipeline_parallel_group(self) -> ProcessGroup:
        """Ranks that hold consecutive layers."""
        return cast(ProcessGroup, parallel_state.get_pipeline_model_parallel_group())

    @property
    def pipeline_parallel_rank(self) -> int:
        """Which stage this rank is."""
        return parallel_state.get_pipeline_model_parallel_rank()

    @property
    def pipeline_parallel_size(self) -> int:
        """Stages."""
        return parallel_state.get_pipeline_model_parallel_world_size()

    @property
    def data_parallel_group(self) -> ProcessGroup:
        """Ranks that hold the same weights and see different samples."""
        return cast(ProcessGroup, parallel_state.get_data_parallel_group())

    @property
    def data_parallel_rank(self) -> int:
        """Which replica this rank belongs to."""
        return parallel_state.get_data_parallel_rank()

    @property
    def data_parallel_size(self) -> int:
        """Replicas of the model."""
        return parallel_state.get_data_parallel_world_size()

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding."""
        return self.pipeline_parallel_rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank holds the output layer and computes the loss."""
        return self.pipeline_parallel_rank == self.pipeline_parallel_size - 1


def initialize_parallel(
    parallelism: ParallelismConfig,
    *,
    device: DeviceChoice = "auto",
    precision: PrecisionChoice = "auto",
    seed: int = 1234,
    timeout_minutes: float = 30.0,
) -> RankContext:
    """Join the other ranks, make megatron-core's groups, set every seed, and say where this rank stands.

    Without CUDA the stand-ins of `no_cuda` are installed first. Raises ConfigError when the layout does
    not fit the ranks or CUDA is asked for and missing, OutsideError when the ranks do not meet.
    """
    rank, world_size, local_rank = (_read_rank(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    world_size = max(world_size, 1)
    _check_layout(parallelism, world_size)
    torch_device = choose_device(device, local_rank)
    install_cpu_stand_ins()
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    else:
        _share_threads()
    timeout = timedelta(minutes=timeout_minutes)
    _join_ranks("nccl" if torch_device.type == "cuda" else "gloo", rank, world_size, timeout)
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallelism.tensor_model_parallel_size,
        pipeline_model_parallel_size=parallelism.pipeline_model_parallel_size,
        context_parallel_size=parallelism.context_parallel_size,
        expert_model_parallel_size=parallelism.expert_model_parallel_size,
        distributed_timeout_minutes=max(1, round(timeout_minutes)),
    )
    _set_seeds(seed)
    return RankContext(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        device=torch_device,
        params_dtype=choose_dtype(precision, torch_device),
    )


def shut_down_parallel() -> None:
    """Leave the process groups; harmless when there are none."""
    parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()


def choose_device(choice: DeviceChoice, local_rank: int = 0) -> torch.device:
    """The device of this rank: `auto` takes the GPU of its local rank where torch sees one, else the CPU.

    Raises ConfigError for `cuda` without CUDA, for fewer GPUs than ranks, and for `cpu` where torch sees
    GPUs, because megatron-core takes every GPU that torch shows it.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if choice == "cuda" and gpus == 0:
        raise ConfigError(
            f"cluster.device is 'cuda', but torch {torch.__version__} sees no GPU",
            "Install a CUDA build of torch, ask for a GPU, or set cluster.device=cpu.",
        )
    if choice == "cpu" and gpus > 0:
        raise ConfigError(
            f"cluster.device is 'cpu', but torch sees {gpus} GPU(s), which megatron-core would use",
            "Hide them with CUDA_VISIBLE_DEVICES= (empty), or set cluster.device=auto.",
        )
    if gpus == 0:
        return torch.device("cpu")
    if local_rank >= gpus:
        raise ConfigError(
            f"local rank {local_rank} has no GPU: torch sees {gpus}",
            "Set cluster.processes_per_node to the number of GPUs of a machine, or fewer.",
        )
    return torch.device("cuda", local_rank)


def choose_dtype(precision: PrecisionChoice, device: torch.device) -> torch.dtype:
    """Dtype of weights and products: `auto` is bfloat16 where the device multiplies it natively, else float32."""
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has bfloat16 dot products (avx512_bf16) or tiles (amx); elsewhere bfloat16 is slower."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _read_rank(name: str) -> int:
    value = os.environ.get(name, "0")
    if not value.isdigit():
        raise ConfigError(
            f"the environment variable {name} is {value!r}, not a number", "Start the ranks with torchrun."
        )
    return int(value)


def _check_layout(parallelism: ParallelismConfig, world_size: int) -> None:
    size = parallelism.model_parallel_size
    if world_size % size:
        raise ConfigError(
            f"{world_size} rank(s) cannot hold replicas of TP x PP x CP = {size} ranks each",
            "Set cluster.nodes and cluster.processes_per_node so that their product is a multiple of it.",
        )
    experts = parallelism.expert_model_parallel_size
    shared = parallelism.tensor_model_parallel_size * parallelism.pipeline_model_parallel_size * experts
    if world_size % shared:
        raise ConfigError(
            f"{world_size} rank(s) cannot share experts over TP x PP x EP = {shared} ranks",
            "Experts are shared by data-parallel ranks: their number must be a multiple of "
            f"parallelism.expert_model_parallel_size, {experts}.",
        )


def _share_threads() -> None:
    """Share the cores among the ranks of this machine, unless the launcher has set a number."""
    if "OMP_NUM_THREADS" not in os.environ:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))


def _join_ranks(backend: str, rank: int, world_size: int, timeout: timedelta) -> None:
    if dist.is_initialized():
        return
    if world_size == 1:
        # An in-process store: a single rank needs no port, so it cannot find one taken.
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1, timeout=timeout)
        return
    try:
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=timeout)
    except (dist.DistError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise OutsideError(
            f"rank {rank} of {world_size} did not meet the others at {address}: {error}",
            "See the first rank's log; a taken port needs another cluster.master_port.",
        ) from error


def _set_seeds(seed: int) -> None:
    """Seed every generator; pipeline stages differ, replicas and shards of one layer do not (megatron's rule)."""
    stage_seed = seed + 100 * parallel_state.get_pipeline_model_parallel_rank()
    random.seed(stage_seed)
    np.random.seed(stage_seed % 2**32)
    torch.manual_seed(stage_seed)
    model_parallel_cuda_manual_seed(stage_seed)
