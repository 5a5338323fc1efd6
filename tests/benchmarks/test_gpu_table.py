"""What the table of GPU figures says of numbers that are given."""

from __future__ import annotations

from benchmarks.gpu import describe


def row(kind: str, name: str, ms: float, error: float | None) -> dict[str, object]:
    return {"kind": kind, "name": name, "ms": ms, "floor_ms": 50.0, "errG": error, "scratch": 2.3}


def test_ours_stand_beside_the_fastest_peer_and_the_fastest_that_is_right() -> None:
    ours = "cand benchmarks.candidates qad"
    peers = {
        "env": {"gpu": "a GPU"},
        "calib": {"copy_TBps": 3.0, "gemm_8192_TFLOPs": 700.0},
        "rows": [
            row("hidden", "4 cuBLAS GEMMs, no loss", 55.0, None),
            row("hidden", ours, 60.0, 2e-3),
            row("hidden", "fast and wrong", 58.0, 1e-1),
            row("hidden", "slow and right", 99.0, 2e-3),
        ],
        "nvfp4": [
            {"M": 8, "K": 16, "name": ours, "us": 10.0, "of_copy": 0.95},
            {"M": 8, "K": 16, "name": "copy (x.clone)", "us": 9.5, "of_copy": 1.0},
            {"M": 8, "K": 16, "name": "a peer", "us": 20.0, "of_copy": 0.5},
        ],
        "skipped": {"missing peer": "not installed"},
    }
    steps = [{"micro_batch_size": 2.0, "pass_ms": 230.0, "peak_gib": 54.0}]
    figure = describe(
        peers, steps, [None, {"micro_batch_size": 2, "fb_ms": [900, 500, 345, 346, 344], "peak_gib": 91.0}]
    )
    words = [" | ".join(cells) for cells in figure.rows]
    assert "loss from hidden: qad | 60.00 ms | 1.20 x" in words[1]
    assert words[1].endswith("slow and right 99.0 ms, error 2e-03; fast and wrong 58.0 ms, error 1e-01")
    assert words[2] == "NVFP4 8 x 16 | 10 us | 0.95 of copy |  | a peer 0.50"
    assert words[3].endswith("peak 54.0 GiB | plain glue 345 ms, 91 GiB")
    assert "missing peer" in figure.sentences[1]
