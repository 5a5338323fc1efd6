"""Where the files that a config names are: weights, tokenizers, blends' neighbours.

Owns turning the config's texts into paths. It does not open them, and imports no package that a
`package://` text names.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from qad_core.config.megatron_folder import list_places_beside
from qad_core.config.schema import ModelConfig
from qad_core.errors import ConfigError
from qad_core.seen import is_file

PACKAGE_SCHEME = "package://"
RANDOM: Literal["random"] = "random"
BYTES: Literal["bytes"] = "bytes"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
"""Files of which a folder with a tokenizer has one."""
TOKENIZER_FILES = (
    *TOKENIZERS,
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""All files that a tokenizer may have."""


def resolve_weights(model: ModelConfig, models_root: Path) -> Path | Literal["random"]:
    """The student's transformers folder or GGUF file, or "random".

    Raises ConfigError when a `package://` text is malformed or its package is not installed.
    """
    return RANDOM if model.weights == RANDOM else resolve_path(model.weights, models_root)


def resolve_teacher_weights(model: ModelConfig, models_root: Path) -> Path | Literal["random"]:
    """The teacher's weights, which are the student's where the config names none; raises as `resolve_weights`."""
    weights = model.teacher_weights or model.weights
    return RANDOM if weights == RANDOM else resolve_path(weights, models_root)


def resolve_tokenizer(model: ModelConfig, models_root: Path) -> Path | Literal["bytes"]:
    """The tokenizer's folder or GGUF file, or "bytes"; the weights' own where the config names none.

    Beside a Megatron checkpoint is in its folder or in its iteration's. Raises ConfigError as `resolve_weights` and
    `find_iteration`, and for random weights without a tokenizer.
    """
    if model.tokenizer == BYTES:
        return BYTES
    if model.tokenizer is not None:
        return resolve_path(model.tokenizer, models_root)
    weights = resolve_weights(model, models_root)
    if isinstance(weights, Path):
        places = list_places_beside(weights)
        return next((place for place in places if any(is_file(place / name) for name in TOKENIZERS)), weights)
    raise ConfigError("random weights have no tokenizer beside them", "Set model.tokenizer, for example to bytes.")


def resolve_path(text: str, models_root: Path) -> Path:
    """A path of the model section: `package://PACKAGE/FILE`, absolute, `~`, or relative to `models_root`.

    Raises ConfigError as `resolve_weights`, and as `expand_user`.
    """
    if not text.startswith(PACKAGE_SCHEME):
        return expand_user(models_root) / expand_user(text)
    package, _, file = text.removeprefix(PACKAGE_SCHEME).partition("/")
    if not package.isidentifier() or not file or ".." in Path(file).parts:
        raise ConfigError(f"{text!r} names no file of a package", f"Write {PACKAGE_SCHEME}PACKAGE/FILE.")
    spec = find_spec(package)  # of a top-level name this looks, and imports nothing
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise ConfigError(f"{text}: the Python package {package} is not installed", f"Run: pip install {name}")
    return Path(spec.submodule_search_locations[0]) / file


def expand_user(path: str | Path) -> Path:
    """The path with `~` or `~name` replaced by the home folder; raises ConfigError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{str(path)!r} starts in a home folder that is not known", "Write the whole path."
        ) from error
