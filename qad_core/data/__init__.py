"""Text to Megatron `.bin/.idx` files and datablend JSON. Heavy: may import transformers and megatron."""
