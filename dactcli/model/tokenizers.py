"""Load and save tokenizers, checked: the tokenizer is really there, and it fits the encoder beside it.

Where a vocabulary is missing transformers makes an empty one and goes on, every word unknown; and nobody but the
embeddings says that a token has no row in them, in the middle of a training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.errors import ArtefactError
from dactcli.model.encoders import family

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

# what a tokenizer's settings take over from the truncation and padding of its last call
OF_A_CALL = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a folder or hub name.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: It is missing, incomplete or damaged.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=False, use_fast=True)
    except Exception as error:  # every tokenizer backend raises its own kinds
        lines = str(error).strip().splitlines()
        raise ArtefactError(
            f"the tokenizer cannot be loaded: {lines[0].rstrip('.') if lines else type(error).__name__}",
            place=str(name),
            remedy="check tokenizer.json and tokenizer_config.json",
        ) from None
    _check_files(tokenizer, str(name))
    return tokenizer


def _check_files(tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer that transformers made up in part or whole; some, of bytes or characters, have no files."""
    files: dict[str, str] = tokenizer.vocab_files_names
    if files and not any(_is_there(name, file) for file in files.values()):
        raise ArtefactError(
            f"the tokenizer is not there: {' or '.join(files.values())} is missing",
            place=name,
            remedy="save the tokenizer of this encoder beside it: tokenizer.save_pretrained(FOLDER)",
        )
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ArtefactError(
            "the tokenizer knows no words: its vocabulary holds special tokens only",
            place=name,
            remedy="save the tokenizer of this encoder again",
        )


def _is_there(name: str, file: str) -> bool:
    """Whether a folder, or a repository of the hub, has a file."""
    from transformers.utils import cached_file

    if Path(name).is_dir():
        return (Path(name) / file).is_file()
    found = cached_file(
        name,
        file,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return found is not None


def check_fit(tokenizer: Tokenizer, config: Any, place: str) -> None:
    """Refuse a tokenizer whose tokens the encoder cannot take.

    Args:
        tokenizer: The tokenizer.
        config: The encoder's configuration; its weights have these sizes.
        place: Where they stand, for errors.

    Raises:
        ArtefactError: A token has no row in the embeddings, or padding is missing or means another token.
    """
    ids: dict[str, int] = tokenizer.get_vocab()
    last = max(ids, key=ids.__getitem__)
    if ids[last] >= config.vocab_size:
        raise ArtefactError(
            f"the tokenizer gives {last!r} the id {ids[last]}, and the encoder has embeddings for {config.vocab_size} "
            "tokens",
            place=place,
            remedy="use the tokenizer that belongs to it, or call model.resize_token_embeddings(len(tokenizer)) and "
            "save the model",
        )
    if tokenizer.pad_token_id is None:
        raise ArtefactError(
            "the tokenizer has no padding token",
            place=place,
            remedy="set tokenizer.pad_token to a token of its vocabulary, and save it",
        )
    try:
        padding = family(config.model_type).counted_from(config)
    except ArtefactError as error:
        raise ArtefactError(error.fault, place=place, remedy=error.remedy) from None
    if padding is not None and tokenizer.pad_token_id != padding:
        raise ArtefactError(
            f"the tokenizer pads with id {tokenizer.pad_token_id}, and the encoder counts positions by padding of id "
            f"{padding}",
            place=place,
            remedy="use the tokenizer that belongs to it",
        )


def check_length(tokenizer: Tokenizer, config: Any, folder: Path) -> None:
    """Bring the length that texts are cut to within what the encoder takes.

    A tokenizer that names no length gets the encoder's.

    Args:
        tokenizer: The tokenizer of a saved model.
        config: Its encoder's configuration.
        folder: Where they stand.

    Raises:
        ArtefactError: The length that it names is not one that the encoder takes.
    """
    from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

    longest, most = tokenizer.model_max_length, family(config.model_type).longest(config)
    if longest == VERY_LARGE_INTEGER:
        tokenizer.model_max_length = most
        return
    least = tokenizer.num_special_tokens_to_add(pair=False) + 1
    if not isinstance(longest, int) or isinstance(longest, bool) or not least <= longest <= most:
        raise ArtefactError(
            f"model_max_length is {longest!r}, and this model takes texts of {least} to {most} tokens",
            place=str(folder / "tokenizer_config.json"),
            remedy=f"set it to {most} or less",
        )


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer without the truncation and padding of its last call.

    Args:
        tokenizer: The tokenizer.
        folder: Where to.

    Raises:
        OSError: The folder cannot be written.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    for name in OF_A_CALL:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder)
