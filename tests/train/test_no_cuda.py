from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

from qad_core.train.no_cuda import install_cpu_stand_ins

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(scope="module")
def stand_ins() -> None:
    install_cpu_stand_ins()


def test_cuda_devices_become_the_cpu() -> None:
    tensors = [
        torch.zeros(2, device="cuda"),
        torch.tensor([1.0], device="cuda:1"),
        torch.empty(2, device=torch.cuda.current_device()),
        torch.empty_like(torch.ones(2), device=torch.device("cuda", 0)),
        torch.ones(2).cuda(),
        torch.ones(2).cuda(0),
        torch.ones(2).to("cuda"),
        torch.ones(2).to(device="cuda", dtype=torch.float64),
        torch.ones(2).to("cuda", torch.bfloat16),
        torch.nn.Linear(2, 2).cuda().weight,
        torch.nn.Linear(2, 2).to("cuda").weight,
    ]
    assert all(tensor.device.type == "cpu" for tensor in tensors)
    assert tensors[7].dtype == torch.float64
    assert tensors[8].dtype == torch.bfloat16


def test_calls_without_a_device_are_left_alone() -> None:
    tensor = torch.ones(2).to(torch.float64)
    assert tensor.dtype == torch.float64
    assert torch.ones(2).to(tensor).dtype == torch.float64
    assert torch.zeros(2, device="meta").device.type == "meta"
    assert torch.ones(2).type(torch.float16).dtype == torch.float16


def test_type_names_have_the_prefix_that_the_optimizer_compares_with() -> None:
    assert torch.ones(1).type() == "torch.cuda.FloatTensor"
    assert torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16)).type() == "torch.cuda.BFloat16Tensor"


def test_streams_and_events_do_nothing() -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        event = torch.cuda.current_stream().record_event()
    torch.cuda.default_stream().wait_stream(torch.cuda.current_stream())
    torch.cuda.synchronize()
    assert event.query()


def test_the_rng_tracker_forks_and_restores_the_cpu_generator() -> None:
    tracker = CudaRNGStatesTracker()
    tracker.add("shard", 7)
    torch.manual_seed(1)
    with tracker.fork("shard"):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))


def test_a_second_installation_changes_nothing() -> None:
    depth = len(torch.overrides._get_current_function_mode_stack())
    current_device = torch.cuda.current_device
    install_cpu_stand_ins()
    assert len(torch.overrides._get_current_function_mode_stack()) == depth
    assert torch.cuda.current_device is current_device


def test_importing_the_module_changes_nothing() -> None:
    code = "import qad_core.train.no_cuda, torch; assert torch.ones(1).type() == 'torch.FloatTensor'"
    subprocess.run([sys.executable, "-c", code], check=True)
