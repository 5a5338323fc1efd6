"""A Megatron `torch_dist` checkpoint's tensors under Hugging Face names, read one at a time from the mapped files.

Owns opening and reading, whatever layout over ranks it was saved with, and what modelopt's quantizers in it say. Names
are `megatron_names.py`'s; which folder is meant is `config/megatron_folder.py`'s. Format:
torch.distributed.checkpoint's `.metadata`, a pickle as all of its files are: open only what you trust.
"""

from __future__ import annotations

import json
import math
import mmap
import pickle
import re
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.utils import _create_file_view

from qad_core.config.megatron_folder import MANIFEST, SavedIteration
from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError, explain_os_error
from qad_core.kernels.nvfp4 import BLOCK_SIZE
from qad_core.models.hf_tensors import Shape
from qad_core.models.megatron_names import Stored, is_weight, list_stored, without_prefix

QuantizerKind = Literal["weight", "input"]
_WEIGHT_AMAX = re.compile(r"(.+)\.weight_quantizer\._amax((?:_[wv])?)")
"""Of a gated linear whose gate and up lie apart, _w and _v."""
_DAMAGED_HINT = "It is damaged or was cut off: fetch or save it again."


class MegatronSource:
    """Tensors of one checkpoint of a Llama, Qwen3 or Qwen3-MoE.

    Raises ModelError for a damaged one and for weights that are packed rather than floating-point numbers.
    """

    def __init__(self, saved: SavedIteration, architecture: ArchitectureConfig) -> None:
        self.description = str(saved.folder)
        self.saved = saved
        _refuse_cut_off(saved.folder)
        with _explained(saved.folder):
            metadata = FileSystemReader(saved.folder).read_metadata()
        self._places: dict[MetadataIndex, Any] = metadata.storage_data
        self._tensors = {
            key: value
            for key, value in metadata.state_dict_metadata.items()
            if isinstance(value, TensorStorageMetadata)
        }
        self._quantizers = {without_prefix(key): key for key in self._tensors if "_quantizer." in key}
        self._chunks: dict[str, dict[int, list[ChunkStorageMetadata]]] = {}
        self._stored: dict[str, Stored] = {}
        self.shapes: dict[str, Shape] = {}
        for key in filter(is_weight, self._tensors):
            self._find_parts(key, architecture)
        self._block_amax = dict(self._find_block_amax(architecture))

    @property
    def is_quantized(self) -> bool:
        """Whether quantizers were saved with the weights, or were to be."""
        return bool(self._quantizers) or self.saved.has_modelopt_state

    @property
    def has_block_scales(self) -> bool:
        """Whether the weights' quantizers hold static scales, one for each block."""
        return any(name.endswith(".weight_quantizer._global_amax") for name in self._quantizers)

    def read(self, name: str) -> Tensor:
        """One tensor as stored, not to be written into: it may be a part of the file."""
        return self._read(self._stored[name], self.shapes[name])

    def read_block_amax(self, name: str) -> Tensor:
        """The amax of each block of a weight, [out, in / 16], by the weight's Hugging Face name.

        Raises ModelError where it was not saved so, or holds NaN or infinite numbers.
        """
        *rows, columns = self.shapes[name]
        expected = (*rows, columns // BLOCK_SIZE)
        stored = self._block_amax.get(name)
        found = None if stored is None else stored.shape(self._tensors[stored.key].size)
        if stored is None or found != expected:
            raise ModelError(
                f"{self.description}: the static block scales of {name} are {found or 'missing'}, expected {expected}",
                "It was quantized in another format: name the unquantized weights, and they are calibrated here.",
            )
        amax = self._read(stored, expected)
        self._refuse_broken_amax(stored.key, amax, amax >= 0)  # of a block of zeros it is 0
        return amax

    def _read(self, stored: Stored, shape: Shape) -> Tensor:
        if len(stored.rows) == 1:
            (first, _), tensor = stored.rows[0], self._tensors[stored.key]
            box = _box((*stored.leading, first), shape, tensor.size)
            items = self._find_items(stored.key, box, len(tensor.size) - len(shape))
            if len(items) == 1 and items[0].lengths == box.sizes:
                # No copy: thousands of them would leave as many holes in the heap, which the next do not fit into.
                with _explained(self.saved.folder):
                    chunk = self._map(items[0].storage_index)
                return _narrow(chunk, items[0].storage_offsets, box.sizes).reshape(shape)
        target = torch.empty(shape, dtype=self._tensors[stored.key].properties.dtype, device="cpu")
        start = 0
        for first, number in stored.rows:
            self._fill(target[start : start + number], stored.key, (*stored.leading, first))
            start += number
        return target

    def read_amax(self, layer: int, linear: str, kind: QuantizerKind) -> Tensor | None:
        """The amax of a linear's weight or input, 0-dim; None where it was not saved.

        `linear` is one of `megatron_names.LINEARS`. Raises ModelError where it is not one for the whole tensor, or no
        positive number.
        """
        values = self._read_quantizer(layer, linear, kind)
        return None if values is None else self._one_value(values, f"decoder.layers.{layer}.{linear}", kind)

    def read_expert_amax(self, layer: int, linear: str, kind: QuantizerKind, num_experts: int) -> Tensor | None:
        """The amax of each expert's weight or input in a layer [experts], as `read_amax`.

        `linear` is one of `megatron_names.EXPERT_LINEARS`; an amax that all experts share is each one's.
        """
        for name in (linear, linear.replace("mlp.experts.", "mlp.experts.experts.")):
            values = self._read_quantizer(layer, name, kind)
            if values is not None and values.numel() == num_experts:
                return values.flatten()
            if values is not None:
                return self._one_value(values, f"decoder.layers.{layer}.{linear}", kind).expand(num_experts).clone()
        names = [linear.replace("mlp.experts.", f"mlp.experts.experts.{expert}.") for expert in range(num_experts)]
        found = [amax for name in names if (amax := self.read_amax(layer, name, kind)) is not None]
        return torch.stack(found) if len(found) == num_experts else None

    def _one_value(self, values: Tensor, name: str, kind: QuantizerKind) -> Tensor:
        if values.numel() != 1:
            raise ModelError(
                f"{self.description}: the {kind} of {name} has {values.numel()} amax values, NVFP4 has one a tensor",
                "It was quantized in another format: name the unquantized weights, and they are calibrated here.",
            )
        return values.reshape(())

    def _read_quantizer(self, layer: int, linear: str, kind: QuantizerKind) -> Tensor | None:
        """All values of a quantizer's amax; with static block scales, the one of the whole tensor."""
        for buffer in ("_global_amax", "_amax"):
            for place, leading in ((f"{layer}.", ()), ("", (layer,))):
                key = self._quantizers.get(f"decoder.layers.{place}{linear}.{kind}_quantizer.{buffer}")
                if key is not None:
                    tensor = self._tensors[key]
                    target = torch.empty(tensor.size[len(leading) :], dtype=tensor.properties.dtype, device="cpu")
                    self._fill(target, key, leading)
                    self._refuse_broken_amax(key, target, target > 0)
                    return target
        return None

    def _refuse_broken_amax(self, key: str, amax: Tensor, in_range: Tensor) -> None:
        if not bool((amax.isfinite() & in_range).all()):
            raise ModelError(
                f"{self.description}: {key} holds what is no amax: NaN, infinite or no positive numbers",
                "Quantize the model again, or name the unquantized weights, and they are calibrated here.",
            )

    def _find_parts(self, key: str, architecture: ArchitectureConfig) -> None:
        tensor = self._tensors[key]
        if not tensor.properties.dtype.is_floating_point or tensor.properties.dtype.itemsize < 2:
            raise ModelError(
                f"{self.description}: {key} is stored as {tensor.properties.dtype}",
                "Its weights were packed; name the checkpoint from before that, in bf16, fp16 or fp32.",
            )
        for name, stored in list_stored(key, tensor.size, architecture):
            if name in self._stored:
                raise ModelError(
                    f"{self.description} has {name} twice, in {self._stored[name].key} and {key}", _DAMAGED_HINT
                )
            self._stored[name] = stored
            self.shapes[name] = stored.shape(tensor.size)

    def _find_block_amax(self, architecture: ArchitectureConfig) -> Iterator[tuple[str, Stored]]:
        """Where the block amax of each weight lies: in the weight's layout, with a column for each block."""
        for name, key in self._quantizers.items() if self.has_block_scales else ():
            match = _WEIGHT_AMAX.fullmatch(name)
            if match is not None:
                weight = f"{match[1]}.weight{match[2]}"
                for part, stored in list_stored(weight, self._tensors[key].size, architecture):
                    yield part, stored._replace(key=key)

    def _fill(self, target: Tensor, key: str, first: tuple[int, ...]) -> None:
        """Copy a box of a stored tensor, which begins at `first` of its leading axes and has the shape of `target`."""
        size = self._tensors[key].size
        box = _box(first, target.shape, size)
        filled = 0
        for item in self._find_items(key, box, len(size) - target.ndim):
            with _explained(self.saved.folder):
                part = _narrow(self._map(item.storage_index), item.storage_offsets, item.lengths)
                _narrow(target.view(box.sizes), item.dest_offsets, item.lengths).copy_(part)
            filled += math.prod(item.lengths)
        if filled != target.numel():
            raise ModelError(f"{self.description} lacks parts of {key}", _DAMAGED_HINT)

    def _find_items(self, key: str, box: ChunkStorageMetadata, alone: int) -> list[ReadItem]:
        """What of the stored chunks lies in a box, `alone` of whose leading axes are of one."""
        tensor = self._tensors[key]
        near = TensorStorageMetadata(tensor.properties, tensor.size, self._chunks_near(key, box, alone))
        return create_read_items_for_chunk_list(key, near, [box])

    def _chunks_near(self, key: str, box: ChunkStorageMetadata, alone: int) -> list[ChunkStorageMetadata]:
        """The chunks at the box's place along the first axis, or all: a mixture of experts has thousands."""
        chunks = self._tensors[key].chunks
        if not alone:
            return chunks
        if key not in self._chunks:
            places: dict[int, list[ChunkStorageMetadata]] = defaultdict(list)
            for chunk in chunks:
                for place in range(chunk.offsets[0], chunk.offsets[0] + chunk.sizes[0]):
                    places[place].append(chunk)
            self._chunks[key] = places
        return self._chunks[key][box.offsets[0]]

    def _map(self, index: MetadataIndex) -> Tensor:
        """A stored chunk, mapped rather than read: its pages take no memory that the system could not have back."""
        place = self._places[index]
        with (self.saved.folder / place.relative_path).open("rb") as file:
            view: Any = _create_file_view(file, place.offset, place.length)
            with FakeTensorMode():  # reads the shape alone, and notes where in the file the numbers are
                outline: Any = torch.load(view, map_location="cpu", weights_only=True)
            storage: Any = outline.untyped_storage()
            if not storage.nbytes():
                return torch.empty(outline.shape, dtype=outline.dtype, device="cpu")
            start = place.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
            end = place.offset + place.length
            # Copy-on-write, and never written to: torch warns of a buffer that is read-only.
            mapping = mmap.mmap(file.fileno(), end - start, access=mmap.ACCESS_COPY, offset=start)
        numbers, offset = storage.nbytes() // outline.itemsize, place.offset - start + storage._checkpoint_offset
        flat = torch.frombuffer(mapping, dtype=outline.dtype, count=numbers, offset=offset)
        return flat.as_strided(outline.shape, outline.stride(), outline.storage_offset())


def _box(first: tuple[int, ...], shape: Shape, size: Sequence[int]) -> ChunkStorageMetadata:
    """What begins at `first` of the leading axes of a tensor of `size`, and has `shape` along the last ones."""
    offsets = (*first, *(0 for _ in size[len(first) :]))
    return ChunkStorageMetadata(torch.Size(offsets), torch.Size((*(1 for _ in size[len(shape) :]), *shape)))


def _narrow(tensor: Tensor, offsets: torch.Size, lengths: torch.Size) -> Tensor:
    for axis, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
        tensor = tensor.narrow(axis, offset, length)
    return tensor


def _refuse_cut_off(folder: Path) -> None:
    """Compare the files with our own list of them, where there is one."""
    if not (folder / MANIFEST).is_file():
        return
    with _explained(folder):
        sizes: dict[str, int] = dict(json.loads((folder / MANIFEST).read_bytes())["files"].items())
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found} bytes, and not {size}"
            raise ModelError(f"{folder / name} {what}", _DAMAGED_HINT)


@contextmanager
def _explained(folder: Path) -> Generator[None]:
    """Name the checkpoint whose files cannot be read; unpickling wrong bytes raises anything of these.

    Raises RunError that names the file where it may not be opened.
    """
    try:
        yield
    except PermissionError as error:
        raise explain_os_error(error) from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        ImportError,
        IndexError,
        pickle.UnpicklingError,
    ) as error:
        raise ModelError(f"checkpoint {folder} cannot be read: {error!r}"[:400], _DAMAGED_HINT) from error
