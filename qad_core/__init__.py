"""Headless half of the product: configs, run folders, launching, and the NVFP4 distillation trainer."""

__version__ = "0.1.0"
