"""Quantizers of a student from those that were saved with its weights, in place of calibrating.

Owns taking the values: a checkpoint of ours or of modelopt's `quantize.sh`, from any layout and spec. The quantizers
themselves are made as `quantize.py` makes them, so that a student is the same kind of model wherever its amax is from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from megatron.core.transformer.moe.moe_layer import MoELayer
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig, QuantizationConfig
from qad_core.errors import ModelError
from qad_core.kernels.nvfp4_backend import nvfp4_config, register_nvfp4_backend
from qad_core.models.hf_import import load_block_amax
from qad_core.models.megatron_names import EXPERT_LINEARS, LINEARS
from qad_core.models.megatron_source import MegatronSource, QuantizerKind
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.train.block_scales import hold_block_scales, make_room_for_block_scales
from qad_core.train.expert_quantizers import set_weight_amax
from qad_core.train.parallel import RankContext
from qad_core.train.quantize import verify_quantized
from qad_core.train.report import log


def take_saved_quantizers(
    student: HiddenStatesGPTModel,
    source: MegatronSource,
    quantization: QuantizationConfig,
    architecture: ArchitectureConfig,
    context: RankContext,
) -> list[str]:
    """Convert a student that has its weights, on every rank, with the amax that `source` has of it.

    Returns this rank's linears whose weight amax was not saved and comes from the weight itself. Raises ModelError,
    naming it, for a linear whose input amax was not saved. Static block scales are held as they were saved; where none
    were, those that the config wants are found for the weights as they are.
    """
    register_nvfp4_backend()
    with torch.no_grad():
        mtq.quantize(student, nvfp4_config(activations=quantization.activations), None)
        recomputed = [name for layer in student.decoder.layers for name in _take_layer(layer, source, quantization)]
        if source.has_block_scales:
            make_room_for_block_scales(student)
            load_block_amax(student, source, architecture, context)
        elif quantization.weight_scales != "max":
            hold_block_scales(student, quantization.weight_scales)
    verify_quantized(student, activations=quantization.activations)
    return recomputed


def tell_origins(recomputed: list[str], source: MegatronSource, quantization: QuantizationConfig) -> None:
    """Say in the log what `take_saved_quantizers` has not found, and where block scales are from."""
    if recomputed:
        log.warning(
            "the amax of %d weights was not saved and is the weights' own: %s ...", len(recomputed), recomputed[0]
        )
    if source.has_block_scales:
        log.info("block scales are held as they were saved")
    elif quantization.weight_scales != "max":
        log.info("block scales (%s) are found anew for the weights as they are", quantization.weight_scales)


def _take_layer(layer: Any, source: MegatronSource, quantization: QuantizationConfig) -> Iterator[str]:
    number = layer.layer_number - 1
    for name in (*LINEARS[:2], *EXPERT_LINEARS) if isinstance(layer.mlp, MoELayer) else LINEARS:
        linear = layer.get_submodule(name)
        if name in EXPERT_LINEARS:
            set_weight_amax(linear)
        if quantization.activations:
            amax = _read(source, number, name, "input", linear)
            if amax is None:
                raise ModelError(
                    f"{source.description} was quantized, but has no input amax for decoder.layers.{number}.{name}",
                    "Set quantization.activations=false if its weights alone were, or name the unquantized weights.",
                )
            _set(linear.input_quantizer, amax, linear.weight.device)
        amax = _read(source, number, name, "weight", linear)
        if amax is None:
            yield f"decoder.layers.{number}.{name}"
        else:
            _set(linear.weight_quantizer, amax, linear.weight.device)


def _read(source: MegatronSource, layer: int, name: str, kind: QuantizerKind, linear: Any) -> Tensor | None:
    """What this rank's part of a linear needs: a 0-dim amax, or that of its experts [local experts] float32."""
    if name not in EXPERT_LINEARS:
        return source.read_amax(layer, name, kind)
    amax = source.read_expert_amax(layer, name, kind, linear.num_local_experts * linear.expert_group.size())
    return None if amax is None else amax[linear.first_expert :][: linear.num_local_experts].float()


def _set(quantizer: Any, amax: Tensor, device: torch.device) -> None:
    quantizer.reset_amax()
    quantizer.amax = amax.to(device)
