"""The KD config of Megatron's scripts (KD_CFG_PATH): a YAML of modelopt's `DistillationConfig`, as our own fields.

Owns which of its keys are fields of `distillation`, and what is said about the others. Where a value that is read
here stands against other settings is `compose.py`'s. Source: modelopt 0.46, torch/distill/plugins/megatron.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.config.fields import FIELDS, nearest
from qad_core.config.problems import Problem
from qad_core.config.yaml_file import YamlFile, read_yaml
from qad_core.errors import ConfigError

KD_CONFIG = "distillation.config"
"""The field that names the file."""
KD_KEYS: Mapping[str, str] = {
    "logit_kl_temperature": "distillation.temperature",
    "logit_kl_topk": "distillation.top_k",
    "skip_lm_loss": "distillation.skip_lm_loss",
    "kd_loss_scale": "distillation.kd_loss_scale",
    "intermediate_layer_pairs": "distillation.intermediate_layers",
}
"""Key of the file -> the field that it sets."""
_OUTPUT = ["output_layer", "output_layer"]
_NOTES: Mapping[str, tuple[str, str]] = {
    "skip_lm_loss": (
        "skip_lm_loss false: the loss is CE + kd_loss_scale x KL; Megatron's scripts scaled KL to the size of CE first",
        "Choose kd_loss_scale for the sizes that the two losses have: eval/ce and eval/kl of step 0.",
    ),
    "logit_kl_topk": (
        "logit_kl_topk: the tokens beyond the top k count together as one; Megatron's scripts left them out",
        "Leave it out to compare the whole vocabulary, which costs no memory here.",
    ),
}
"""Key -> what it means here that it did not mean there, and what to do about it."""


@dataclass
class KdConfig:
    """What a KD YAML says."""

    values: dict[str, tuple[object, str]] = field(default_factory=dict[str, tuple[object, str]])
    """Dotted key of our config -> (value, its place in the file)."""
    problems: list[Problem] = field(default_factory=list[Problem])
    """What it asks for and cannot have; `where` is empty for the file as a whole."""
    notes: list[Problem] = field(default_factory=list[Problem])
    """What it gets in another way than from Megatron's scripts."""


def read_kd_config(path: Path) -> KdConfig:
    """Read a KD YAML; one that cannot be read is a problem, as is each key that this product cannot follow.

    A key that it does not have has modelopt's default, which is our field's.
    """
    found = KdConfig()
    try:
        file = read_yaml(path)
    except ConfigError as error:
        found.problems.append(Problem(f"KD config: {error.message}", "", error.hint))
        return found
    found.values.update({key: (FIELDS[key].default, str(path)) for key in KD_KEYS.values()})
    for key, value in file.values.items():
        place = _place(file, key)
        if key not in KD_KEYS:
            found.problems += _refuse(key, value, place)
            continue
        default = FIELDS[KD_KEYS[key]].default
        value = default if value is None else value
        found.values[KD_KEYS[key]] = (value, place)
        if key in _NOTES and value != default:
            found.notes.append(Problem(_NOTES[key][0], place, _NOTES[key][1]))
    _drop_idle_scale(found)
    return found


def _drop_idle_scale(found: KdConfig) -> None:
    """A scale beside `skip_lm_loss: true` does nothing in Megatron's scripts, whose own example has both."""
    scale, place = found.values["distillation.kd_loss_scale"]
    if found.values["distillation.skip_lm_loss"][0] is True and scale != 1:
        found.values["distillation.kd_loss_scale"] = (1.0, place)
        what = f"kd_loss_scale {scale}: it does nothing beside skip_lm_loss true, as in Megatron's scripts"
        found.notes.append(Problem(what, place, "Leave it out, or set skip_lm_loss to false."))


def _refuse(key: str, value: object, place: str) -> list[Problem]:
    """What to say of a key that sets no field; nothing where it says what is so in any case."""
    if key == "logit_layers":
        what = f"logit_layers {value}: the logits that are compared are the output layers'"
        return [] if value == _OUTPUT else [Problem(what, place, f"Leave it out, or write {_OUTPUT}.")]
    if key in ("criterion", "loss_balancer"):
        what = f"{key} is made by Megatron's scripts themselves, and is nothing that a file can say"
        return [] if value is None else [Problem(what, place, "Leave it out.")]
    near = nearest(key, [*KD_KEYS, "logit_layers"])
    hint = f"Did you mean {near}?" if near else f"Its keys are {', '.join(KD_KEYS)}."
    return [Problem(f"{key!r} is not a key of a KD config", place, hint)]


def _place(file: YamlFile, key: str) -> str:
    return f"{file.path} line {file.lines[key]}" if key in file.lines else str(file.path)
