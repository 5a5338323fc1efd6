"""Which checkpoint a run has come to, from the tracker file that is written last. Light: opens no checkpoint."""

from __future__ import annotations

from qad_core.run.folder import TRACKER_NAME, RunFolder


def newest_checkpoint_step(folder: RunFolder) -> int | None:
    """Optimizer steps of the newest whole checkpoint; None when there is none, or the tracker holds no number."""
    steps = [
        int(text)
        for tracker in folder.path.glob(f"checkpoints/*/{TRACKER_NAME}")
        if (text := tracker.read_text(encoding="utf-8", errors="replace").strip()).isdigit()
    ]
    return max(steps, default=None)
