"""Whether this Python has what the trainer imports; looks, and imports nothing."""

from __future__ import annotations

from importlib.util import find_spec

from qad_core.errors import QadError

TRAINER_PACKAGES = ("torch", "megatron", "modelopt", "transformers", "tensorboard", "datasets", "tiktoken", "gguf")


def require_trainer() -> None:
    """Raise QadError naming what is missing: an install without the `train` extra can check and watch, not train."""
    missing = [package for package in TRAINER_PACKAGES if find_spec(package) is None]
    if missing:
        raise QadError(
            f"The trainer's packages are not installed: {', '.join(missing)}.",
            "Run: pip install 'qad[train]' (from a checkout: pip install '.[train]'), or make install.",
        )
