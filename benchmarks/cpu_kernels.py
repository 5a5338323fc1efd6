"""CPU times of the kernels beside their floors and the plain code: `python -m benchmarks.cpu_kernels`, half a minute.

The loss at SmolLM2-135M's size (512 tokens, vocabulary 49,152, hidden 576, bf16) against the bare four matrix
products and the naive loss; NVFP4 of weights and activations against a copy and the reference. Calls take turns, in a
process whose memory is kept as a run's is. A CPU without AMX multiplies into float32 logits at the speed of float32:
the second line says what that alone costs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qad_core.kernels.kd_loss import kd_loss_from_hidden_states
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, nvfp4_reference
from qad_core.kernels.products import logits_into
from qad_core.launch.plan import KEPT_MEMORY

TOKENS, VOCAB, HIDDEN = 512, 49_152, 576


@dataclass(frozen=True)
class Row:
    """One measured line: the best of `repeats` calls, and its ratio to the floor of its group."""

    group: str
    name: str
    milliseconds: float
    ratio_to_floor: float
    repeats: int


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    arguments = parser.parse_args()
    if not KEPT_MEMORY.items() <= os.environ.items():
        command = [sys.executable, "-m", "benchmarks.cpu_kernels", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **KEPT_MEMORY})
    rows = measure_loss(arguments.repeats) + measure_nvfp4(arguments.repeats)
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": [asdict(row) for row in rows]}))
    else:
        print_table(rows)


def measure_loss(repeats: int) -> list[Row]:
    """Forward and backward of the KD loss; the floor is the bare four products in bf16."""
    x, w, tx, tw = make_heads()
    variants: dict[str, Callable[[], object]] = {
        "bare four products, bf16": lambda: four_products(x.detach(), w.detach(), tx, tw),
        "the same with float32 logits": lambda: four_products_of_float32_logits(x.detach(), w.detach(), tx, tw),
        "ours": lambda: backward(kd_loss_from_hidden_states(x, w, tx, tw) / TOKENS),
        "ours, frozen head": lambda: backward(kd_loss_from_hidden_states(x, w.detach(), tx, tw) / TOKENS),
        "naive, bf16 logits": lambda: backward(naive_kd(x @ w.t(), tx @ tw.t())),
    }

    def forget_gradients() -> None:
        x.grad = w.grad = None

    return measure("KD loss, 512 tokens", variants, repeats, forget_gradients)


def measure_nvfp4(repeats: int) -> list[Row]:
    """Quantize-dequantize with the amax given; the floor is a copy into a new tensor."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for what, shape in (("weights", (49_152, 576)), ("activations", (512, 1536))):
            x = torch.randn(shape).to(dtype)
            rows += measure(
                f"NVFP4, {what} {shape[0]}x{shape[1]} {str(dtype).removeprefix('torch.')}", nvfp4_variants(x), repeats
            )
    return rows


def nvfp4_variants(x: Tensor) -> dict[str, Callable[[], object]]:
    """The copy, ours and the reference on `x` [M, K]."""
    amax = x.abs().amax()
    return {
        "copy": lambda: x.clone(),
        "ours": lambda: nvfp4_quantize_dequantize(x, amax),
        "reference": lambda: nvfp4_reference(x, amax),
    }


def make_heads() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """bf16 student [N, H], [V, H] near its teacher, logits of standard deviation 3."""
    torch.manual_seed(0)
    scale = 3.0 / HIDDEN**0.5
    tx, tw = torch.randn(TOKENS, HIDDEN), torch.randn(VOCAB, HIDDEN) * scale
    x, w = tx + 0.05 * torch.randn(TOKENS, HIDDEN), tw + 0.05 * scale * torch.randn(VOCAB, HIDDEN)
    return x.bfloat16().requires_grad_(), w.bfloat16().requires_grad_(), tx.bfloat16(), tw.bfloat16()


def four_products(x: Tensor, w: Tensor, tx: Tensor, tw: Tensor) -> None:
    """Both logits, then dX and dW, as the loss needs them."""
    student, teacher = x @ w.t(), tx @ tw.t()
    _, _ = student @ w, teacher.t() @ x


def four_products_of_float32_logits(x: Tensor, w: Tensor, tx: Tensor, tw: Tensor) -> None:
    """`four_products` with logits that are not rounded, in memory that ours takes too."""
    logits = x.new_empty(2, TOKENS, VOCAB, dtype=torch.float32)
    logits_into(logits[0], x, w)
    logits_into(logits[1], tx, tw)
    narrow = logits[1].view(-1).view(torch.bfloat16)[: TOKENS * VOCAB].view(TOKENS, VOCAB)
    _, _ = narrow @ w, narrow.t() @ x


def naive_kd(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean KL from logits [N, V] through two log-softmaxes."""
    student = F.log_softmax(student_logits.float(), dim=-1)
    teacher = F.log_softmax(teacher_logits.float(), dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def backward(loss: Tensor) -> None:
    """Backward of a 0-dim loss."""
    torch.autograd.backward(loss)


def measure(
    group: str, variants: dict[str, Callable[[], object]], repeats: int, prepare: Callable[[], None] = lambda: None
) -> list[Row]:
    """One row a variant, the quickest of its calls, which take turns; the first is the floor."""
    best = dict.fromkeys(variants, math.inf)
    for round_number in range(repeats + 1):
        for name, step in variants.items():
            prepare()
            start = time.perf_counter()
            step()
            if round_number:  # the first warms up
                best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    floor = next(iter(best.values()))
    return [Row(group, name, ms, ms / floor, repeats) for name, ms in best.items()]


def print_table(rows: list[Row]) -> None:
    """One block a group."""
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            print(f"\n{group:52s}{'ms':>9s}{'x floor':>10s}")
        print(f"  {row.name:50s}{row.milliseconds:9.2f}{row.ratio_to_floor:10.2f}")


if __name__ == "__main__":
    main()
