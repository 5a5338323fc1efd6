"""Text to token ids and back: a transformers folder, the tokenizer inside a GGUF file, or plain bytes.

Owns loading and one small interface over the three. Documents, files and chat records are `data/`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from qad_core.errors import ModelError

BYTES = "bytes"
CHAT_DATE = "26 Jul 2024"
"""The date, Llama's own default, that templates with a `date_string` write: equal settings give equal tokens."""
_FOLDER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class Tokenizer(Protocol):
    """What the data preparation and the datasets need of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Highest token id plus one, added tokens included."""
        ...

    @property
    def eod_id(self) -> int | None:
        """Token that ends a document; None when the tokenizer has none."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of the text, with nothing put before or after it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids."""
        ...

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """Text of a chat of `{"role", "content"}` messages; raises when there is no template or it fails.

        `add_generation_prompt` lets it end where the assistant has to speak.
        """
        ...


def load_tokenizer(tokenizer: Path | str | None, weights: Path | str) -> Tokenizer:
    """Load `tokenizer`: `bytes`, a transformers folder or a .gguf file; None takes what lies beside the weights.

    The same file is loaded once a process. Raises ModelError when there is no tokenizer to be read.
    """
    place = str(weights if tokenizer is None else tokenizer)
    if place == BYTES:
        return BytesTokenizer()
    if place == "random":
        raise ModelError("random weights come with no tokenizer", f"Set model.tokenizer={BYTES}, or to a folder.")
    path = Path(place)
    if not path.exists():
        raise ModelError(f"there is no tokenizer at {path}", "Correct model.tokenizer or paths.models_root.")
    if path.is_dir() and not any((path / name).exists() for name in _FOLDER_FILES):
        raise ModelError(
            f"{path} holds no tokenizer (none of {', '.join(_FOLDER_FILES)})", "Set model.tokenizer to its folder."
        )
    return _load_file(path, path.stat().st_mtime_ns)


def check_tokenizer_fits(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise ModelError when the tokenizer makes ids that the model has no embedding for.

    A model may have more rows than the tokenizer has tokens; Qwen3's are padded so.
    """
    if tokenizer.vocab_size > vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} token ids, the model only {vocab_size} embedding rows",
            "It is another model's: set model.tokenizer to the one that the model was trained with.",
        )


class BytesTokenizer:
    """One token a byte of UTF-8, and one that ends a document; for tests and trials without a tokenizer file."""

    vocab_size = 257
    eod_id = 256

    def encode(self, text: str) -> list[int]:
        """The text's bytes."""
        return list(text.encode("utf-8"))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The bytes as text; ids above 255 are dropped, a broken character becomes U+FFFD."""
        return bytes(token for token in token_ids if token < 256).decode("utf-8", errors="replace")

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """Raise ModelError: there is no template."""
        raise ModelError(
            f"the tokenizer `{BYTES}` has no chat template for {len(messages)} messages",
            "Set model.tokenizer to a chat model's tokenizer, or write records with `text`.",
        )


class TransformersTokenizer:
    """A tokenizer that transformers has loaded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocab_size: int = max(tokenizer.get_vocab().values()) + 1
        self.eod_id: int | None = tokenizer.eos_token_id

    @property
    def definition(self) -> dict[str, Any] | None:
        """What the `tokenizers` library knows of it, in the form of tokenizer.json; None for one in plain Python."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else json.loads(backend.to_str())

    def save(self, folder: Path) -> None:
        """Write the files of a transformers folder, also where the tokenizer came from a GGUF file."""
        self._tokenizer.save_pretrained(folder)

    def encode(self, text: str) -> list[int]:
        """Token ids without a beginning-of-text token; a special token written out in the text is that token."""
        # verbose=False: a document longer than the model's context is cut up later and no reason to warn.
        return self._tokenizer.encode(text, add_special_tokens=False, verbose=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text with special tokens written out."""
        return self._tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False)

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """The chat as the model was trained to see it."""
        return self._tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=CHAT_DATE,
        )


@lru_cache(maxsize=4)
def _load_file(path: Path, _modified_ns: int) -> TransformersTokenizer:
    """Load a folder or a GGUF file; the time of its last change keeps a replaced file from being taken from memory."""
    # Imported here: it takes seconds, which `bytes` need not wait for.
    from transformers import AutoTokenizer

    try:
        if path.is_dir():
            return TransformersTokenizer(AutoTokenizer.from_pretrained(path, local_files_only=True))
        return TransformersTokenizer(AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ModelError(
            f"{path} cannot be read as a tokenizer: {error}",
            "Fetch it again, or set model.tokenizer to a transformers folder or a whole .gguf file.",
        ) from error
