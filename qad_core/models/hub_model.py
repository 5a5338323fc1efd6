"""A model's folder from the Hugging Face hub: safetensors, shape and tokenizer, in the hub's own cache.

Owns which files are fetched and what a refusal means. The token is HF_TOKEN of the environment and no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from qad_core.data.backoff import Setback, find_break, find_busy, find_status, with_waits
from qad_core.errors import ModelError, OutsideError, QadError

_WANTED = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model"]
_UNWANTED = ["original/*", "consolidated*", "onnx/*"]
"""The same weights once more, in forms that nothing here reads."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403


def download_model(repository: str, tell: Callable[[str], None]) -> Path:
    """Fetch `owner/name`, or what of it is not in the cache yet; returns its transformers folder.

    Raises ModelError for a repository that is not there or not open to this token, OutsideError when the hub cannot
    be reached or breaks off.
    """
    # Imported here: a model that lies on this machine need not wait for it.
    from huggingface_hub import snapshot_download

    def fetch() -> str:
        return snapshot_download(
            repository,
            allow_patterns=_WANTED,
            ignore_patterns=_UNWANTED,
            token=os.environ.get("HF_TOKEN") or False,
        )

    try:
        return Path(with_waits(repository, fetch, tell, _find_setback))
    except QadError:
        raise
    except Exception as error:  # the libraries below have several of their own for a network that fails
        raise _explain(repository, error) from error


def _find_setback(error: BaseException) -> Setback | None:
    """A busy hub, or a connection that broke off; one that is not reached at all is told at once."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return find_busy(error) or (None if isinstance(error, LocalEntryNotFoundError) else find_break(error))


def _explain(repository: str, error: Exception) -> Exception:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError) or find_status(error) == _FORBIDDEN:
        return ModelError(
            f"the hub's model {repository} is not open to you",
            "Accept its terms on its page, and set HF_TOKEN in the environment to a token of that account.",
        )
    if isinstance(error, RepositoryNotFoundError) or find_status(error) == _UNAUTHORIZED:
        return ModelError(
            f"the hub has no model {repository}, or not for you",
            f"Correct the name, or the path: there is no folder {repository} here. A private one needs HF_TOKEN.",
        )
    if isinstance(error, HFValidationError):
        return ModelError(f"{repository!r} is no name of the hub's: {error}", "Write owner/name.")
    if isinstance(error, LocalEntryNotFoundError | OSError) or find_break(error) is not None:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return OutsideError(
            f"the hub's model {repository} cannot be fetched: {first}",
            f"Check the network and the space in {HF_HUB_CACHE} (HF_HOME), or fetch it elsewhere and name its folder.",
        )
    return error
