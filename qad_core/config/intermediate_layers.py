"""Pairs of layers inside student and teacher that are compared beside the logits: how they are written, where they lie.

Owns the names of layers and their pipeline stages. The losses themselves are `train/intermediate.py`'s, and whether
pairs fit two models and a layout `checks_intermediate.py`'s. Source of the form: modelopt 0.46,
torch/distill/plugins/megatron.py, `intermediate_layer_pairs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

LayerLoss = Literal["cosine", "mse"]
_LAYER = re.compile(
    r"decoder\.final_layernorm"
    r"|decoder\.layers\.(?P<number>0|[1-9][0-9]*)(\.(input_layernorm|self_attention|pre_mlp_layernorm|mlp))?"
)
"""Modules whose output is as wide as the residual stream on every tensor-parallel rank."""


@dataclass(frozen=True)
class LayerPair:
    """Two modules whose outputs are compared."""

    student: str
    """Megatron's name of the student's module: `decoder.layers.5`, counted from 0 over all pipeline stages."""
    teacher: str
    """The same of the teacher's."""
    loss: LayerLoss


def check_pair(entry: tuple[str, ...]) -> tuple[str, ...]:
    """The entry as it is; raises ValueError unless it is (student's layer, teacher's layer), or these and a loss."""
    losses = get_args(LayerLoss)
    if len(entry) not in (2, 3):
        raise ValueError(f"{len(entry)} texts, where [student's layer, teacher's layer] or these and a loss are wanted")
    for name in entry[:2]:
        if not _LAYER.fullmatch(name):
            raise ValueError(
                f"{name!r} is no layer to compare: decoder.final_layernorm, decoder.layers.N (from 0), or of one"
                " such layer .input_layernorm, .self_attention, .pre_mlp_layernorm or .mlp"
            )
    if len(entry) == 3 and entry[2] not in losses:
        raise ValueError(f"{entry[2]!r} is no loss between layers: they are {' and '.join(losses)}")
    return entry


def read_pairs(entries: Iterable[tuple[str, ...]]) -> list[LayerPair]:
    """The pairs of entries that `check_pair` has passed; one without a loss is compared by the cosine."""
    return [
        LayerPair(entry[0], entry[1], cast("LayerLoss", entry[2] if len(entry) == 3 else "cosine")) for entry in entries
    ]


def layer_number(name: str) -> int | None:
    """Number of the transformer layer that a module belongs to; None for the final norm, which is after all."""
    match = _LAYER.fullmatch(name)
    assert match is not None
    return None if match["number"] is None else int(match["number"])


def stage_of(name: str, num_layers: int, stages: int) -> int:
    """Pipeline stage that holds a module of a model with `num_layers` layers, a multiple of `stages`."""
    number = layer_number(name)
    return stages - 1 if number is None else number // (num_layers // stages)


def name_on_stage(name: str, first_layer: int) -> str:
    """The module's name on a stage whose layers are `first_layer` and on: Megatron counts them from 0 there."""
    number = layer_number(name)
    return name if number is None else name.replace(f".{number}", f".{number - first_layer}", 1)
