"""Texts that are longer than a model reads: which of their tokens it reads.

`cut` keeps the beginning. `head+tail` keeps the first and the last tokens, half and half, with the special tokens in
their places. Of a pair, the longer text is shortened first, as `cut` does it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dactcli.errors import UsageError

if TYPE_CHECKING:
    from transformers import BatchEncoding
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.data.batches import Encoded
    from dactcli.recipe.schema import LongTexts

READ: dict[LongTexts, str] = {"cut": "the beginning", "head+tail": "the first and the last tokens"}


def long_notice(encoded: Encoded, max_length: int, long_texts: LongTexts) -> str | None:
    """A sentence on the texts that were shortened; None if there are none.

    Args:
        encoded: The examples.
        max_length: Most tokens per example.
        long_texts: What is read of longer ones.
    """
    if not encoded.truncated:
        return None
    found = f"{len(encoded.truncated)} of {len(encoded.lengths)} texts are longer than {max_length} tokens"
    return f"{found} and were cut" if long_texts == "cut" else f"{found}, and only {READ[long_texts]} of these are read"


def check_tokenizer(tokenizer: Tokenizer, long_texts: LongTexts) -> None:
    """Refuse a tokenizer that does not say which tokens are special, where texts are not simply cut.

    Args:
        tokenizer: The tokenizer.
        long_texts: What is read of texts that are too long.

    Raises:
        UsageError: It is not a fast tokenizer.
    """
    if long_texts != "cut" and not tokenizer.is_fast:
        raise UsageError(
            f"is {long_texts}, and this encoder has no fast tokenizer, which alone says which tokens are special",
            place="data.long",
            remedy="set data.long: cut",
        )


def head_and_tail(rows: BatchEncoding, max_length: int) -> dict[str, list[list[int]]]:
    """Keep the first and the last tokens of tokenised texts.

    Args:
        rows: Whole texts, from a fast tokenizer.
        max_length: Most tokens per example, special ones included.

    Returns:
        The kept tokens by name: `input_ids`, and `token_type_ids` where the tokenizer gives them.
    """
    kept = [kept_tokens(rows.sequence_ids(row), max_length) for row in range(len(rows["input_ids"]))]
    return {
        name: [[row[place] for place in places] for row, places in zip(rows[name], kept, strict=True)]
        for name in ("input_ids", "token_type_ids")
        if name in rows
    }


def kept_tokens(parts: Sequence[int | None], max_length: int) -> list[int]:
    """The places of the tokens to keep.

    Args:
        parts: The text of each token: 0, or 1 for the second text of a pair; None for special tokens.
        max_length: Most tokens to keep. All special ones are kept.

    Returns:
        The places in ascending order.
    """
    special = [place for place, part in enumerate(parts) if part is None]
    texts = [[place for place, part in enumerate(parts) if part == text] for text in (0, 1)]
    room = max(max_length - len(special), 0)
    first, second = shares(len(texts[0]), len(texts[1]), room)
    return sorted([*special, *_ends(texts[0], first), *_ends(texts[1], second)])


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text of a pair fit: the longer one is shortened first, to the length of the other.

    Args:
        first: Tokens of the first text.
        second: Tokens of the second text; 0 without one.
        room: Tokens that fit.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def _ends(places: list[int], number: int) -> list[int]:
    """So many of the places: the first half and the last half; the first has one more of an odd number."""
    if number >= len(places):
        return places
    tail = number // 2
    return places[: number - tail] + places[len(places) - tail :]
