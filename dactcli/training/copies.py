"""Altered copies of texts without labels: more texts for the exit heads to learn the classifier's answers on.

A copy need not mean what its text means, since the classifier itself answers it. In turn a copy is a part of its text,
the text without some of its tokens, and the first half of it before the second half of another.

E texts, K copies of each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

from dactcli.data.batches import Encoded, cut_into

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

SHORTEST = 1 / 3  # share of a text that a part of it has at least
AROUND = 2  # special tokens of a single text: one before it and one after it
DROPPED = 0.15  # share of the tokens that a copy without some of them lacks
Rows = dict[str, list[int]]  # the tokens of a text and their types, by name


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
            whole, other = (_window(encoded, one, rng) for one in (text, rng.randrange(count)))
            for name, row in _copy(whole, other, copy % 3, special, rng).items():
                inputs[name].append(row or whole[name][:1])
    windows = None
    if encoded.windows is not None:
        windows = [*encoded.windows, *([len(row)] for row in inputs["input_ids"][count:])]
    return Encoded(inputs, None, encoded.truncated, windows)


def _window(encoded: Encoded, text: int, rng: Random) -> Rows:
    """The tokens of a text, by name; of one that is read in windows those of one window."""
    rows = {name: values[text] for name, values in encoded.inputs.items()}
    sizes = None if encoded.windows is None else encoded.windows[text]
    if sizes is None or len(sizes) == 1:
        return rows
    number = rng.randrange(len(sizes))
    return {name: cut_into(row, sizes)[number] for name, row in rows.items()}


def _copy(whole: Rows, other: Rows, kind: int, special: Collection[int], rng: Random) -> Rows:
    """One copy; a text with special tokens in its middle, as a pair's are, only loses tokens."""
    tokens = whole["input_ids"]
    begin, end = _content(tokens, special)
    inside = range(begin, end)
    if kind == 1 or sum(token in special for token in tokens) > AROUND or len(inside) < 2:
        kept = [place for place, token in enumerate(tokens) if token in special or rng.random() > DROPPED]
        return _taken(whole, kept)
    if kind == 0:
        size = rng.randint(max(1, int(SHORTEST * len(inside))), len(inside))
        start = begin + rng.randint(0, len(inside) - size)
        return _taken(whole, [*range(begin), *range(start, start + size), *range(end, len(tokens))])
    half = begin + len(inside) // 2
    after, stop = _content(other["input_ids"], special)
    places = [at for at in range(after + (stop - after) // 2, stop) if other["input_ids"][at] not in special]
    parts = [_taken(whole, range(half)), _taken(other, places[: end - half]), _taken(whole, range(end, len(tokens)))]
    return {name: [token for part in parts for token in part[name]] for name in whole}  # no longer than its text


def _content(tokens: Sequence[int], special: Collection[int]) -> tuple[int, int]:
    """Where a text's own tokens begin and end, without the special ones around them."""
    own = [place for place, token in enumerate(tokens) if token not in special]
    return (own[0], own[-1] + 1) if own else (len(tokens), len(tokens))


def _taken(rows: Rows, places: Sequence[int]) -> Rows:
    """Some tokens of a text, with their types."""
    return {name: [row[place] for place in places] for name, row in rows.items()}
