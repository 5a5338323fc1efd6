"""The Triton kernels compute what the plain code does, in Triton's interpreter and, where there is one, on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.kd_loss import kd_loss_from_hidden_states
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, nvfp4_reference
from tests.kernels.kd_cases import Heads, make_heads, make_weights, plain_kd, relative_error

KERNEL_TESTS = (
    "test_kd_loss.py", "test_kd_variants.py", "test_nvfp4.py", "test_nvfp4_backend.py", "test_nvfp4_block_scales.py",
    "test_vocab_parallel.py", "test_rms_norm.py", "test_attention_heads.py", "test_swiglu.py",
)  # fmt: skip
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.parametrize("file", KERNEL_TESTS)
def test_the_kernels_pass_the_plain_code_s_tests_in_the_interpreter(file: str) -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(
        [*command, str(Path(__file__).with_name(file))], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:]


def test_the_interpreter_is_what_sends_a_tensor_of_the_cpu_to_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    assert not uses_triton(torch.zeros(1))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert uses_triton(torch.zeros(1)) and not uses_triton(torch.zeros(1, dtype=torch.float64))


@on_a_gpu
@pytest.mark.parametrize("options", [{}, {"divergence": "reverse"}, {"top_k": 50}], ids=["full", "reverse", "top_50"])
@pytest.mark.parametrize(("vocab", "tokens"), [(151936, 300), (50001, 777), (1000, 5)])
def test_on_a_gpu_the_loss_is_right_to_the_rounding_of_its_gradients(
    vocab: int, tokens: int, options: dict[str, Any]
) -> None:
    heads = make_heads(tokens, vocab, 128, torch.bfloat16)
    heads, weights = Heads(*(t.cuda() for t in heads.tensors())), make_weights(tokens).cuda()
    truth = plain_kd(heads.to(torch.float64), weights, 2.0, **options)
    x, w = heads.as_leaves()
    loss = kd_loss_from_hidden_states(
        x, w, heads.teacher_hidden, heads.teacher_weight, loss_mask=weights, temperature=2.0, **options
    )
    dx, dw = torch.autograd.grad(loss, (x, w))
    assert relative_error(loss, truth[0]) < 2e-5 or (loss - truth[0]).abs() < 5e-8 * weights.sum()
    assert relative_error(dx, truth[1]) < 3.3e-3 and relative_error(dw, truth[2]) < 3.3e-3


@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("magnitude", [1e-38, 1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_on_a_gpu_nvfp4_is_the_reference_bit_for_bit(dtype: torch.dtype, magnitude: float) -> None:
    x = torch.randn(512, 256, device="cuda") * torch.exp(3 * torch.randn(512, 1, device="cuda")) * magnitude
    x = x.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
    x[3], x[5, 7], x[6, 9] = 0.0, torch.nan, torch.inf
    for amax in (x.float().nan_to_num(0, 0, 0).abs().amax(), torch.tensor(magnitude, device="cuda")):
        value, truth = nvfp4_quantize_dequantize(x, amax), nvfp4_reference(x, amax)
        assert torch.equal(value.nan_to_num(7.0), truth.nan_to_num(7.0)), (value != truth).nonzero()[:5]
