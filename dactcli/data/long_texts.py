"""Texts that are longer than a model reads: which of their tokens it reads.

`cut` keeps the beginning. `head+tail` keeps the first and the last tokens, half and half, with the special tokens in
their places. Of a pair, the longer text is shortened first, as `cut` does it too. `window` keeps all: it reads the
text, or the longer one of a pair, in windows that overlap, each with the special tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dactcli.errors import UsageError

if TYPE_CHECKING:
    from transformers import BatchEncoding
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.data.batches import Encoded
    from dactcli.recipe.schema import LongTexts

READ: dict[LongTexts, str] = {
    "cut": "only the beginning is read",
    "head+tail": "only the first and the last tokens are read",
    "window": "all tokens are read, in windows that overlap",
}
OVERLAP = 4  # windows share at least this part, one in so many, of the tokens that fit into one


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
    if long_texts == "cut":
        return f"{found} and were cut"
    if long_texts == "window":
        windows = sum(len((encoded.windows or [])[position]) for position in encoded.truncated)
        return f"{found} and are read in {windows:,} windows"
    return f"{found}, and only the first and the last tokens of these are read"


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


def read_longer(rows: BatchEncoding, max_length: int, long_texts: LongTexts) -> dict[str, list[list[int]]]:
    """What is read of tokenised texts.

    Args:
        rows: Whole texts, longer than `max_length`, from a fast tokenizer.
        max_length: Most tokens of an example or a window, special ones included.
        long_texts: `head+tail` or `window`.

    Returns:
        The tokens by name: `input_ids`, and `token_type_ids` where the tokenizer gives them. Windows follow one
        another; all have `max_length` tokens (`split_evenly`).
    """
    places = kept_tokens if long_texts == "head+tail" else windowed_tokens
    kept = [places(rows.sequence_ids(row), max_length) for row in range(len(rows["input_ids"]))]
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


def windowed_tokens(parts: Sequence[int | None], max_length: int) -> list[int]:
    """The places of the tokens of all windows of a text, or of the longer text of a pair.

    Neighbours share at least a quarter of the tokens that fit, and the windows begin at even distances. The shorter
    text of a pair stands in every window, shortened to its beginning where it has more than half of the room.

    Args:
        parts: As for `kept_tokens`; more of them than `max_length`.
        max_length: Tokens of each window; more than there are special ones.

    Returns:
        The places of the first window in ascending order, those of the second, and so on; `max_length` of each.

    Raises:
        UsageError: The special tokens leave no room.
    """
    special = [place for place, part in enumerate(parts) if part is None]
    texts = [[place for place, part in enumerate(parts) if part == text] for text in (0, 1)]
    if max_length <= len(special):
        raise UsageError(
            f"leaves no room beside {len(special)} special tokens", place="data.max_length", remedy="raise it"
        )
    room = shares(len(texts[0]), len(texts[1]), max_length - len(special))
    longer = 0 if len(texts[0]) > len(texts[1]) else 1
    always = [*special, *texts[1 - longer][: room[1 - longer]]]
    size, moving = room[longer], texts[longer]
    steps = math.ceil((len(moving) - size) / (size - size // OVERLAP))
    starts = [(len(moving) - size) * number // steps for number in range(steps + 1)] if steps > 0 else [0]
    return [place for start in starts for place in sorted([*always, *moving[start : start + size]])]


def split_evenly(tokens: int, max_length: int) -> list[int]:
    """Tokens of each window of an example: one of any length, or several of `max_length`."""
    return [tokens] if tokens <= max_length else [max_length] * (tokens // max_length)


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
