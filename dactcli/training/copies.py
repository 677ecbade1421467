"""Altered copies of texts without labels: more texts for the exit heads to learn the classifier's answers on.

A copy need not mean what its text means, since the classifier itself answers it. In turn a copy is a part of its text,
the text without some of its tokens, and the first half of it before the second half of another.

E texts, K copies of each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

from dactcli.data.batches import Encoded
from dactcli.data.long_texts import split_evenly

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

SHORTEST = 1 / 3  # share of a text that a part of it has at least
DROPPED = 0.15  # share of the tokens that a copy without some of them lacks
Positions = list[int]


def with_copies(encoded: Encoded, copies: int, tokenizer: Tokenizer, *, seed: int) -> Encoded:
    """The texts, and after them their copies: first one of each, then the second of each.

    Args:
        encoded: Texts without labels.
        copies: K.
        tokenizer: Theirs; special tokens stay.
        seed: Decides what is left out.

    Returns:
        [E (1 + K)]
    """
    rng, special = Random(seed), set(tokenizer.all_special_ids)
    inputs = {name: list(rows) for name, rows in encoded.inputs.items()}
    count = len(encoded.lengths)
    for copy in range(copies):
        for text in range(count):
            other = rng.randrange(count)
            made = _copy(encoded, text, other, copy % 3, special, rng)
            for name, row in made.items():
                inputs[name].append(row)
    windows = None
    if encoded.windows is not None:
        longest = max(size for one in encoded.windows for size in one)
        added = [split_evenly(len(row), longest) for row in inputs["input_ids"][count:]]
        windows = [*encoded.windows, *added]
    return Encoded(inputs, None, encoded.truncated, windows)


def _copy(
    encoded: Encoded, text: int, other: int, kind: int, special: Collection[int], rng: Random
) -> dict[str, list[int]]:
    """One copy; a text whose special tokens stand in its middle, as a pair's do, only loses tokens."""
    tokens = encoded.inputs["input_ids"][text]
    begin, end = _content(tokens, special)
    inside = range(begin, end)
    if kind == 1 or any(tokens[place] in special for place in inside) or len(inside) < 2:
        kept = [place for place, token in enumerate(tokens) if token in special or rng.random() > DROPPED]
        return _taken(encoded, text, kept)
    if kind == 0:
        size = rng.randint(max(1, int(SHORTEST * len(inside))), len(inside))
        start = begin + rng.randint(0, len(inside) - size)
        return _taken(encoded, text, [*range(begin), *range(start, start + size), *range(end, len(tokens))])
    first = _taken(encoded, text, [*range(begin + len(inside) // 2)])
    after, stop = _content(encoded.inputs["input_ids"][other], special)
    room = len(tokens) - len(first["input_ids"]) - (len(tokens) - end)  # no copy is longer than its text
    second = _taken(encoded, other, [*range(after + (stop - after) // 2, stop)][:room])
    last = _taken(encoded, text, [*range(end, len(tokens))])
    return {name: [*first[name], *second[name], *last[name]] for name in first}


def _content(tokens: Sequence[int], special: Collection[int]) -> tuple[int, int]:
    """Where a text's own tokens begin and end, without the special ones around them."""
    own = [place for place, token in enumerate(tokens) if token not in special]
    return (own[0], own[-1] + 1) if own else (len(tokens), len(tokens))


def _taken(encoded: Encoded, text: int, places: Positions) -> dict[str, list[int]]:
    """Some tokens of a text, with their types; one token at least."""
    return {name: [rows[text][place] for place in places] or rows[text][:1] for name, rows in encoded.inputs.items()}
