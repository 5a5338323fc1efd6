"""The numerics that the product exists for: KD loss and NVFP4, each beside its plain reference. Heavy."""
