"""The identity of a saved model: digests of everything that can change an answer.

A certificate and kept layer outputs belong to one model. They are compared by these digests, so that an edit of
config.json or of a tokenizer file is noticed as surely as other weights. The
digests leave out what changes no answer: the halting rule, versions, and source paths.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dactcli.storage import sha256

if TYPE_CHECKING:
    from dactcli.runs.load import Run

# keys in which transformers records source paths
ORIGINS = (
    "_name_or_path",
    "name_or_path",
    "tokenizer_file",
    "vocab_file",
    "special_tokens_map_file",
    "is_local",
    "local_files_only",
)
# keys of config.json that change no answer; the dtype is a field of the identity
_UNREAD = (*ORIGINS, "rule", "transformers_version", "dact_format", "dtype", "torch_dtype")
_CALLS = ("truncation", "padding")  # state of the last call that tokenizer.json keeps
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class ModelIdentity:
    """What a model's answers depend on.

    Attributes:
        weights_sha256: SHA-256 of model.safetensors.
        config_sha256: SHA-256 of config.json in canonical form, without rule, versions and paths.
        tokenizer_sha256: SHA-256 of the tokenizer files in canonical form, without paths.
        dtype: Type that the encoder runs in, for example `float32`.
        max_length: Most tokens per example.
    """

    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    dtype: str
    max_length: int

    @property
    def digest(self) -> str:
        """One SHA-256 of all of it, as 64 hex digits."""
        return _digest(asdict(self))


class FileDigests(NamedTuple):
    """The digests of the files of a saved model, as in `ModelIdentity`."""

    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str


def file_digests(folder: Path) -> FileDigests:
    """The digests of a saved model's files; reads all of its weights."""
    return FileDigests(sha256(folder / "model.safetensors"), config_digest(folder), tokenizer_digest(folder))


def identify(run: Run) -> ModelIdentity:
    """The identity of a loaded run, from the files in its folder and the type that it runs in.

    A run reads its files once; `dtype` and `max_length` are those of this moment.
    """
    return ModelIdentity(
        *run.file_digests,
        dtype=str(run.model.dtype).removeprefix("torch."),
        max_length=run.tokenizer.model_max_length,
    )


def config_digest(folder: Path) -> str:
    """SHA-256 of a model's config.json in canonical form."""
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return _digest(_without(document, _UNREAD))


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of a model's tokenizer files in canonical form."""
    found: dict[str, Any] = {}
    for name in TOKENIZER_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
            found[name] = _without(document, ORIGINS + (_CALLS if name == "tokenizer.json" else ()))
        else:
            found[name] = sha256(path)
    return _digest(found)


def _without(document: Any, names: tuple[str, ...]) -> Any:
    """A configuration and its encoder's without some of their keys; other mappings keep all of theirs."""
    if not isinstance(document, dict):
        return document
    kept = {key: value for key, value in document.items() if key not in names}
    if isinstance(kept.get("encoder_config"), dict):
        kept["encoder_config"] = _without(kept["encoder_config"], names)
    return kept


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
