"""Checks of the pairs of layers that are compared inside the two models, against their shapes and the layout.

Pure functions of the config and the two models' shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

from qad_core.config.checks_experts import teacher_keys
from qad_core.config.intermediate_layers import LayerPair, layer_number, read_pairs, stage_of
from qad_core.config.problems import Problem
from qad_core.config.schema import ArchitectureConfig, RunConfig

_PAIRS = "distillation.intermediate_layers"
_PP = "parallelism.pipeline_model_parallel_size"


def check_intermediate_layers(
    config: RunConfig, architecture: ArchitectureConfig | None, teacher: ArchitectureConfig | None
) -> Iterator[Problem]:
    """Problems of the pairs; those of layers only where both shapes are known."""
    pairs = read_pairs(config.distillation.intermediate_layers)
    if pairs and config.loss == "qat":
        what = f"{_PAIRS} compares layers with the teacher's, which loss qat does not train on"
        yield Problem(what, f"{_PAIRS}, loss", "Leave the pairs out, or take loss qad.")
    names = [(pair.student, pair.teacher) for pair in pairs]
    for student_layer, teacher_layer in sorted({pair for pair in names if names.count(pair) > 1}):
        what = f"the pair {student_layer}, {teacher_layer} is given more than once"
        yield Problem(what, _PAIRS, "Give it once, with one loss.")
    if not pairs or architecture is None or teacher is None:
        return
    if architecture.hidden_size != teacher.hidden_size:
        what = (
            f"{_PAIRS}: the student is {architecture.hidden_size} wide and the teacher {teacher.hidden_size},"
            " so that their layers cannot be compared"
        )
        yield Problem(what, f"{_PAIRS}, {teacher_keys(config)}", "Leave the pairs out: the logits are compared.")
    for pair in pairs:
        yield from _check_pair(pair, config, architecture, teacher)


def _check_pair(
    pair: LayerPair, config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig
) -> Iterator[Problem]:
    stages = config.parallelism.pipeline_model_parallel_size
    models = [("student", pair.student, architecture.num_layers), ("teacher", pair.teacher, teacher.num_layers)]
    absent = [item for item in models if (layer_number(item[1]) or 0) >= item[2]]
    for whose, name, num_layers in absent:
        what = f"{name} is no layer of the {whose}, which has {num_layers}, numbered from 0"
        yield Problem(what, _PAIRS, f"Take decoder.layers.{num_layers - 1} or one before it.")
    if absent or any(num_layers % stages for *_, num_layers in models):
        return
    found = [stage_of(name, num_layers, stages) for _, name, num_layers in models]
    if found != [stages - 1, stages - 1]:
        lies = f"stage {found[0]}" if found[0] == found[1] else f"stages {found[0]} and {found[1]}"
        what = (
            f"the pair {pair.student}, {pair.teacher} lies on pipeline {lies},"
            f" but layers are compared where the loss is, on stage {stages - 1}"
        )
        firsts = " and ".join(f"{num_layers - num_layers // stages} of the {whose}" for whose, _, num_layers in models)
        yield Problem(what, f"{_PAIRS}, {_PP}", f"Take layers from {firsts} on, or a smaller PP.")
