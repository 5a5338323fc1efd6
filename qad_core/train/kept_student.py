"""Writes the student of a quantized checkpoint anew, a layer at a time: no more than one is held.

Owns the loop: a model of one layer is built, loaded, quantized by what was saved of it, and written. What quantizers
take is `saved_quantizers.py`'s, the file's layout `models/megatron_writer.py`'s. A student that is to be calibrated
must be held whole, for tokens have to go through it.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.models.hf_import import load_layer
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.megatron_writer import CONTENT, open_writer
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.train.checkpoint import save_modes
from qad_core.train.parallel import RankContext
from qad_core.train.saved_quantizers import take_saved_quantizers, tell_origins
from qad_core.train.session import build_plain_model


def write_kept_student(
    source: MegatronSource, config: RunConfig, architecture: ArchitectureConfig, context: RankContext, target: Path
) -> None:
    """Write weights and quantizers of a checked source into an empty folder, in the dtype of `context`.

    Raises as `take_saved_quantizers`, ModelError for NaN or infinite numbers, and OutsideError where the disk does not
    take the files.
    """
    recomputed: list[str] = []
    with open_writer(target) as writer:
        writer.add_outside_layers(source, architecture, architecture.vocab_size)
        for number in range(architecture.num_layers):
            student, own = _make_layer(number, source, config, architecture, context)
            layer: Any = student.decoder.layers[0]
            writer.add_state(layer.sharded_state_dict(f"decoder.layers.{number}.", (), dict(CONTENT)))
            if number == 0:
                save_modes(student, target)  # they name no layers: those of one are those of all
            recomputed += own
            _free(student)
    tell_origins(recomputed, source, config.quantization)


def _make_layer(
    number: int, source: MegatronSource, config: RunConfig, architecture: ArchitectureConfig, context: RankContext
) -> tuple[HiddenStatesGPTModel, list[str]]:
    """A student of one layer, the model's layer `number`, and its linears as `take_saved_quantizers` lists them."""
    alone = architecture.model_copy(update={"num_layers": 1, "vocab_size": 1})  # the embedding stays unused
    student = build_plain_model(config, context, alone)
    layer: Any = student.decoder.layers[0]
    layer.layer_number = number + 1
    load_layer(layer, source, architecture, context)
    with contextlib.redirect_stdout(io.StringIO()):  # modelopt tells of each layer's quantizers
        return student, take_saved_quantizers(student, source, config.quantization, architecture, context)


def _free(student: HiddenStatesGPTModel) -> None:
    """Let go of the tensors: modelopt's modules refer to one another in circles, and would hold them for long."""
    for tensor in (*student.parameters(), *student.buffers()):
        tensor.data = tensor.data.new_empty(0)
