"""The GPU figures in one table: `python -m benchmarks.gpu [--json FILE]` (`make bench-gpu`), on one GPU.

Runs, one after another and each in a process of its own: the peers of the loss and of NVFP4 with our functions among
them (`kd_peers.py`), the whole step as plain glue of megatron-core and modelopt (`plain_glue.py`), and our step
(`gpu_step.py`). Ratios are to floors measured in the same run: the copy rate, the matrix rate, the bare four products.
A peer that is not installed is listed, never guessed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console

TOKENS = 8192
OURS = "cand benchmarks.candidates "
BARE = "4 cuBLAS GEMMs, no loss"
LEAST_ACCURATE = 1e-2
"""Gradient error over which a peer does not count as right."""
PEERS_SECONDS = 210
STEP_SECONDS = 120


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figure to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        peers = run_peers(Path(name) / "peers.json")
        ours = run_step(Path(name) / "step.json")
    glue = [run_plain_glue(size) for size in (1, 2)]
    figure = describe(peers, ours, glue)
    print_figure(figure, console())
    if arguments.json:
        arguments.json.write_text(figure.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def run_peers(answer: Path) -> dict[str, Any]:
    """What `kd_peers.py` measured."""
    script = Path(__file__).with_name("kd_peers.py")
    deadline = str(PEERS_SECONDS - 40)
    arguments = ["--n", str(TOKENS), "--deadline", deadline, "--candidate", "benchmarks.candidates:provider"]
    _run([sys.executable, str(script), *arguments, "--json", str(answer)], PEERS_SECONDS + 60)
    return json.loads(answer.read_text(encoding="utf-8"))


def run_step(answer: Path) -> list[dict[str, float]]:
    """What `gpu_step.py` measured, a micro-batch size each; empty where it could not."""
    _run([sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_step", "--json", str(answer)], STEP_SECONDS)
    if not answer.exists():
        return []
    return json.loads(json.loads(answer.read_text(encoding="utf-8"))["data"]["steps"])


def run_plain_glue(micro_batch_size: int) -> dict[str, Any] | None:
    """What `plain_glue.py` printed, or None where it could not run."""
    script = Path(__file__).with_name("plain_glue.py")
    output = _run(
        [sys.executable, "-W", "ignore", str(script)], STEP_SECONDS, {"MBS": str(micro_batch_size), "STEPS": "8"}
    )
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return {"micro_batch_size": micro_batch_size, **json.loads(lines[-1])} if lines else None


def _run(command: list[str], seconds: float, variables: dict[str, str] | None = None) -> str:
    """Its standard output; its errors go to ours. What does not end in time is ended."""
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    environ = {**os.environ, "PYTHONPATH": path, **(variables or {})}
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environ, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        print(f"ended after {seconds:.0f} s: {' '.join(command)}", file=sys.stderr)
        return ""
    return ended.stdout


def describe(peers: dict[str, Any], ours: list[dict[str, float]], glue: list[dict[str, Any] | None]) -> Figure:
    """The table."""
    calibration = peers["calib"]
    rows = [*_loss_rows(peers["rows"], "hidden"), *_loss_rows(peers["rows"], "logits"), *_nvfp4_rows(peers["nvfp4"])]
    for row in ours:
        size = int(row["micro_batch_size"])
        peer = next((each for each in glue if each and each["micro_batch_size"] == size), None)
        theirs = "not measured"
        if peer is not None:
            theirs = f"plain glue {_median(peer['fb_ms'][2:]):.0f} ms, {peer['peak_gib']:.0f} GiB"
        memory = f"peak {row['peak_gib']:.1f} GiB"
        rows.append((f"QAD step, micro-batch {size}", f"{row['pass_ms']:.1f} ms", "", memory, theirs))
    left_out = "; ".join(peers["skipped"]) or "none"
    return Figure(
        title=f"Kernels and step on one {peers['env']['gpu']}: {TOKENS} tokens, V = 151,936, H = 4,096; "
        "the step on the Qwen3-1.7B shape, sequence 4,096",
        columns=("", ">ours", ">to the floor", "accuracy and memory", "best peers"),
        rows=tuple(rows),
        sentences=(
            f"Copy rate {calibration['copy_TBps']:.2f} TB/s, matrix rate {calibration['gemm_8192_TFLOPs']:.0f} TFLOP/s "
            "in the same run.",
            f"Peers left out: {left_out}.",
        ),
        data={"peers": peers, "step": ours, "plain_glue": glue},
    )


def _loss_rows(rows: list[dict[str, Any]], kind: str) -> list[tuple[str, ...]]:
    measured = [row for row in rows if row["kind"] == kind and "ms" in row]
    theirs = sorted((row for row in measured if not row["name"].startswith((OURS, BARE))), key=lambda row: row["ms"])
    right = [row for row in theirs if (row["errG"] or 1.0) < LEAST_ACCURATE]
    best = [*right[:1], *(row for row in theirs[:1] if row not in right[:1])]
    words = "; ".join(f"{row['name']} {row['ms']:.1f} ms, error {row['errG'] or 1.0:.0e}" for row in best)
    shown = []
    for row in measured:
        if row["name"].startswith(BARE):
            shown.append((f"from {kind}: the bare four products", f"{row['ms']:.1f} ms", _ratio(row), "", ""))
        elif row["name"].startswith(OURS):
            memory = f"gradient error {row['errG']:.1e}, scratch {row['scratch']:.2f} GiB"
            name = row["name"].removeprefix(OURS)
            shown.append((f"loss from {kind}: {name}", f"{row['ms']:.2f} ms", _ratio(row), memory, words))
    return shown


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ms'] / row['floor_ms']:.2f} x"


def _nvfp4_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    shown = []
    for row in rows:
        if row["name"].startswith(OURS) and "us" in row:
            same = [each for each in rows if (each["M"], each["K"]) == (row["M"], row["K"]) and "us" in each]
            theirs = [each for each in same if not each["name"].startswith((OURS, "copy"))]
            best = min(theirs, key=lambda each: each["us"], default=None)
            words = "" if best is None else f"{best['name']} {best['of_copy']:.2f}"
            shape = f"{row['M']} x {row['K']}"
            shown.append((f"NVFP4 {shape}", f"{row['us']:.0f} us", f"{row['of_copy']:.2f} of copy", "", words))
    return shown


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else float("nan")


if __name__ == "__main__":
    sys.exit(main())
