"""calibration.json: what calibration could not see, written once by the run's first rank.

Owns the format and its words. It is no part of status.json, which a resume, that calibrates nothing, writes anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qad_core.run.show import count_of

MOST_LAYERS = 6
"""Layers named in one line."""
Count = Annotated[int, Field(ge=0, lt=2**31)]


class UnseenLayer(BaseModel):
    """Experts of one layer that no token of the calibration went to, and the amax that their inputs got instead."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    layer: Count
    """Counted from 0 over all pipeline stages."""
    experts: tuple[Count, ...]
    num_experts: Count
    """In the layer."""
    input_amax: tuple[float, float]
    """Of gate and up, and of down: the largest of the layer's other experts."""


def write_unseen(path: Path, layers: Sequence[UnseenLayer]) -> None:
    """Replace the file in one step."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    values = {"unseen_experts": [layer.model_dump(mode="json") for layer in layers]}
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_unseen(path: Path) -> list[UnseenLayer]:
    """The layers with unseen experts; none where the file is not there, or is not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return [UnseenLayer.model_validate(value) for value in values["unseen_experts"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return []


def unseen_words(layers: Sequence[UnseenLayer]) -> str:
    """One line: which layers, how many of their experts, and the amax that these got instead; empty for none."""
    if not layers:
        return ""
    named = [
        f"layer {layer.layer}: {len(layer.experts)} of {layer.num_experts}"
        f" (amax {layer.input_amax[0]:.3g}, {layer.input_amax[1]:.3g})"
        for layer in layers[:MOST_LAYERS]
    ]
    more = [count_of(len(layers) - MOST_LAYERS, "more layer")] if len(layers) > MOST_LAYERS else []
    total = sum(len(layer.experts) for layer in layers)
    return (
        f"{count_of(total, 'expert')} saw no token in calibration and took their layer's largest amax: "
        f"{'; '.join([*named, *more])}"
    )
