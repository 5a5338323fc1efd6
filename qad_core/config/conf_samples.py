"""How many samples the scripts trained on each of their datasets when TRAIN_SAMPLES was not set.

Owns that table. Source: the `case "$DATASET_NAME"` of NVIDIA Model-Optimizer's examples/llm_qad/qwen_qad.sh
(commit 306986875). Its numbers count documents, while a sample is one packed sequence: they are habits, not epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

FALLBACK_SAMPLES = 299_800
"""What the scripts took for a dataset that they did not know: OpenScience's."""

_RENDERINGS = ("", "_cot", "_chat", "_cot_chat")
_NAMES: Mapping[int, str] = {
    2_500_000: "nemotron_10pct* nemotron_all_10pct*",
    7_500_000: "nemotron nemotron_chat nemotron_cot_chat nemotron_30pct* nemotron_all_30pct*",
    12_500_000: "nemotron_50pct* nemotron_all_50pct*",
    25_000_000: "nemotron_100pct nemotron_all_100pct nemotron_full",
    5_000_000: "nemotron_stem*",
    2_000_000: "nemotron_math",
    5_886_717: "nemotron_v1_stem nemotron_v1_stem_30pct_cot_chat",
    582_654: "nemotron_v1_math nemotron_v1_math_30pct_cot_chat",
    540_472: "nemotron_v1_code nemotron_v1_code_30pct_cot_chat",
    212_786: "nemotron_v1_chat nemotron_v1_chat_30pct_cot_chat",
    7_222_629: "nemotron_v1_all nemotron_v1_all_en_30pct_cot_chat",
    398_198: "nemotron_v2 nemotron_v2_cot nemotron_v2_chat_tmpl nemotron_v2_cot_chat"
    " nemotron_v2_30pct* nemotron_v2_all_en_30pct*",
    663_663: "nemotron_v2_50pct* nemotron_v2_all_en_50pct*",
    600_000: "nemotron_v2_multilingual nemotron_v2_all_multilingual_30pct",
    101_175: "nemotron_v2_stem* nemotron_v2_stem_30pct*",
    68_248: "nemotron_v2_math* nemotron_v2_math_30pct*",
    178_900: "nemotron_v2_chat* nemotron_v2_chat_30pct*",
    99_750: "nemotron_v2_code nemotron_v2_code_chat nemotron_v2_code_30pct nemotron_v2_code_30pct_chat",
    49_875: "nemotron_v2_code_cot nemotron_v2_code_cot_chat nemotron_v2_code_30pct_cot nemotron_v2_code_30pct_cot_chat",
    299_800: "openscience openscience_chat",
    10_000_000: "combined combined_chat combined_v1_v2_openscience combined_v1_v2_openscience_chat",
    8_200_000: "combined_cot_chat combined_all_cot_chat",
    1_024_000: "combined_v2 combined_v2_cot_chat",
    500_000: "slimorca slimorca_chat",
}
"""Samples -> names; `*` stands for the plain text and its three other renderings."""


def _listed() -> Iterator[tuple[str, int]]:
    for samples, names in _NAMES.items():
        for name in names.split():
            stem = name.removesuffix("*")
            endings = _RENDERINGS if name != stem else ("",)
            yield from ((stem + ending, samples) for ending in endings)


SCRIPT_SAMPLES: Mapping[str, int] = dict(_listed())
"""DATASET_NAME -> samples."""
