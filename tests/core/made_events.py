"""A run of other scripts: checkpoints, and event files as TensorBoard's own writer makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


def write_events(
    run: Path, scalars: Mapping[str, Sequence[float]], *, first_step: int = 1, start: int = 1, began: float = 1e9
) -> Path:
    """Write tags with a value a step into one more event file of a run, the later the `start`; its path.

    Steps are a second apart, the first at Unix time `began`.
    """
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    folder = run / "tensorboard/model"
    writer = SummaryWriter(str(folder), filename_suffix=f".{start}")
    for place in range(max(map(len, scalars.values()))):
        for tag, values in scalars.items():
            if place < len(values):
                writer.add_scalar(tag, values[place], first_step + place, walltime=began + place)
    writer.close()
    (made,) = folder.glob(f"*.{start}")
    return made.rename(made.with_name(f"events.out.tfevents.{1_700_000_000 + start}.host"))
