"""Hugging Face and GGUF models as megatron-core GPT models. Heavy."""
