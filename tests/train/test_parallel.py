from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from qad_core.config.schema import ParallelismConfig
from qad_core.errors import ConfigError, OutsideError
from qad_core.train.parallel import choose_device, choose_dtype, initialize_parallel, shut_down_parallel
from tests.ranks import run_on_ranks


@pytest.fixture
def one_rank() -> Iterator[None]:
    yield
    shut_down_parallel()


@pytest.mark.usefixtures("one_rank")
def test_a_single_process_needs_no_launcher() -> None:
    context = initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    assert (context.rank, context.world_size, context.device.type) == (0, 1, "cpu")
    assert (context.tensor_parallel_size, context.pipeline_parallel_size, context.data_parallel_size) == (1, 1, 1)
    assert context.is_first_stage and context.is_last_stage
    assert context.params_dtype == torch.float32


@pytest.mark.usefixtures("one_rank")
def test_the_same_seed_gives_the_same_numbers_after_a_restart() -> None:
    numbers: list[torch.Tensor] = []
    for _ in range(2):
        initialize_parallel(ParallelismConfig(), device="cpu", seed=3)
        numbers.append(torch.rand(4))
        shut_down_parallel()
    assert torch.equal(*numbers)


def test_ranks_know_their_place() -> None:
    assert run_on_ranks(_describe_place, 2) == [(0, 0, 0, 1.0), (0, 1, 0, 1.0)]


def test_ranks_that_do_not_fill_a_replica_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 rank"):
        initialize_parallel(ParallelismConfig(tensor_model_parallel_size=2), device="cpu")


@pytest.mark.usefixtures("one_rank")
def test_a_taken_port_ends_in_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OutsideError, match=port) as error:
            initialize_parallel(ParallelismConfig(), device="cpu", timeout_minutes=0.05)
    assert "cluster.master_port" in error.value.hint


def test_cuda_without_a_gpu_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no GPU") as error:
        choose_device("cuda")
    assert "cluster.device=cpu" in error.value.hint
    assert choose_device("auto").type == "cpu"


def test_auto_precision_follows_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert choose_dtype("auto", cpu) == dtype
    assert choose_dtype("bf16", cpu) == torch.bfloat16
    assert choose_dtype("fp32", cpu) == torch.float32


def _describe_place() -> tuple[int, int, int, float]:
    context = initialize_parallel(
        ParallelismConfig(pipeline_model_parallel_size=2), device="cpu", precision="fp32", timeout_minutes=1
    )
    ranks = torch.tensor(float(context.rank), device="cuda")
    dist.all_reduce(ranks, group=context.pipeline_parallel_group)
    place = (context.tensor_parallel_rank, context.pipeline_parallel_rank, context.data_parallel_rank, float(ranks))
    shut_down_parallel()
    return place
