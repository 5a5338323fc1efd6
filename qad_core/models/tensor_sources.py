"""Where weights come from, all under Hugging Face names: transformers, GGUF, a Megatron checkpoint, or a seed.

Owns opening and reading one tensor at a time. What the model needs of them is checked in `hf_import.py`;
GGUF's names, layout and metadata are in `gguf_source.py`, Megatron's in `megatron_source.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qad_core.config.megatron_folder import find_iteration
from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError, explain_os_error
from qad_core.models.gguf_source import GgufSource
from qad_core.models.hf_tensors import EMBEDDING, OUTPUT, Shape, list_expected_tensors
from qad_core.models.megatron_source import MegatronSource

_REFETCH_HINT = "Fetch the file again and compare its size with the original's."


class TensorSource(Protocol):
    """Named tensors, read one at a time on the CPU."""

    @property
    def description(self) -> str:
        """What it is, for messages: a path, or the seed."""
        ...

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor, by Hugging Face name."""
        ...

    def read(self, name: str) -> Tensor:
        """One whole tensor, in the dtype in which it is stored; linear weights are [out, in]."""
        ...


def read_finite(source: TensorSource, name: str) -> Tensor:
    """One whole tensor, as `TensorSource.read`; raises ModelError where it holds NaN or infinite numbers."""
    tensor = source.read(name)
    # A tenth of the time of isfinite().all(), and no tensor beside it: the extremes carry any NaN.
    if not all(extreme.isfinite() for extreme in tensor.aminmax()):
        raise ModelError(
            f"{source.description}: {name} holds NaN or infinite numbers",
            "Fetch the weights again, or save them again.",
        )
    return tensor


def open_tensor_source(weights: Path | str, architecture: ArchitectureConfig, seed: int) -> TensorSource:
    """Open `weights`: a transformers folder, a .gguf file, a Megatron checkpoint, or `random`, which has the `seed`.

    Raises ModelError when nothing readable is there, and ConfigError as `find_iteration`.
    """
    if str(weights) == "random":
        return RandomSource(architecture, seed)
    path = Path(weights)
    if not path.exists():
        raise ModelError(f"there are no weights at {path}", "Correct model.weights or paths.models_root.")
    if path.is_file():
        return GgufSource(path, architecture)
    saved = find_iteration(path)
    return SafetensorsSource(path) if saved is None else MegatronSource(saved, architecture)


_VALUES = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


class SafetensorsSource:
    """The safetensors of a transformers folder, one file or an index of shards; tensors are mapped, not loaded."""

    def __init__(self, folder: Path) -> None:
        self.description = str(folder)
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, Shape] = {}
        for path in _list_shards(folder):
            self._read_header(path)

    def read(self, name: str) -> Tensor:
        """One tensor as stored; raises ModelError for one that holds codes and not values."""
        with _opened(self._files[name]) as file:
            tensor = file.get_tensor(name)
        if tensor.dtype not in _VALUES:
            raise ModelError(
                f"{self._files[name]}: {name} is stored as {tensor.dtype}: the weights were quantized",
                "Give the model as it was before: its bfloat16, float16 or float32 weights.",
            )
        return tensor

    def _read_header(self, path: Path) -> None:
        with _opened(path) as file:
            for name in file.keys():
                self._files[name] = path
                self.shapes[name] = tuple(file.get_slice(name).get_shape())


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """A safetensors file, open; raises ModelError for a damaged one, and RunError for one that we may not open."""
    try:
        path.open("rb").close()  # safetensors says of whatever the system refuses that it is not there
    except OSError as error:
        raise explain_os_error(error) from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}", _REFETCH_HINT) from error


class RandomSource:
    """Weights from a seed; each tensor has its own generator, so the layout over ranks changes nothing.

    Standard deviations are one over the root of the width that is summed over, and twice that for the
    embedding and the head, so that a tiny model's next-token distribution is far from uniform.
    """

    def __init__(self, architecture: ArchitectureConfig, seed: int) -> None:
        self.description = f"random weights of seed {seed}"
        self.shapes: dict[str, Shape] = list_expected_tensors(architecture)
        self._seed = seed

    def read(self, name: str) -> Tensor:
        """One tensor, float32."""
        digest = hashlib.sha256(f"{self._seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        shape = self.shapes[name]
        noise = torch.randn(shape, generator=generator, device="cpu")
        if len(shape) == 1:
            return 1.0 + 0.1 * noise  # a norm's weight
        scale = 2.0 if name in (EMBEDDING, OUTPUT) else 1.0
        return noise * (scale / math.sqrt(shape[1]))


def _list_shards(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        raise ModelError(
            f"{folder} holds neither {single.name} nor {index.name}",
            "Give a transformers folder saved as safetensors, a .gguf file, or a Megatron torch_dist checkpoint.",
        )
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of safetensors shards: {error!r}", _REFETCH_HINT) from error
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ModelError(f"{folder} lacks the shards {', '.join(missing)} that its index names", "Fetch them.")
    return [folder / name for name in names]
