"""From texts to padded batches: tokenise, count what was cut, bucket by length, pad.

B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from dactcli import distributed
from dactcli.characters import whole_characters
from dactcli.data.examples import Examples
from dactcli.data.long_texts import check_tokenizer, read_longer, split_evenly
from dactcli.recipe.schema import Kind, LongTexts

if TYPE_CHECKING:
    from transformers import BatchEncoding
    from transformers import PreTrainedTokenizerBase as Tokenizer


# Most tokens of a batch where a whole data set runs, and the fewest that survivors wait for, by kind of device: on
# a CPU a layer is as fast per token from about 256 tokens on, a GPU wants many more.
TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 8192}

NO_LIMIT = 1 << 30  # tokens


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples.

    Attributes:
        inputs: `input_ids`, and `token_type_ids` where the tokenizer gives them: a list of tokens per example. Those
            of its windows follow one another.
        labels: Classes, values, or lists of label indices; None when unlabelled.
        truncated: Positions of the examples that were longer than allowed.
        windows: Tokens of each window of each example; None where every example is read at once.
        answers: In the place of labels, probabilities of the classes or labels, as another model gives them [E, C].
    """

    inputs: dict[str, list[list[int]]]
    labels: list[Any] | None
    truncated: list[int]
    windows: list[list[int]] | None = None
    answers: Tensor | None = None

    @property
    def lengths(self) -> list[int]:
        """Tokens per example, of all its windows."""
        return [len(ids) for ids in self.inputs["input_ids"]]

    def select(self, positions: Sequence[int]) -> Encoded:
        """Some of the examples, in the order of the positions."""
        kept = set(self.truncated)
        return Encoded(
            {name: [rows[position] for position in positions] for name, rows in self.inputs.items()},
            [self.labels[position] for position in positions] if self.labels is not None else None,
            [place for place, position in enumerate(positions) if position in kept],
            [self.windows[position] for position in positions] if self.windows is not None else None,
            self.answers[list(positions)] if self.answers is not None else None,
        )

    def targets(self, positions: Sequence[int], kind: Kind, classes: int) -> Tensor:
        """What a training teaches of some examples, as a model takes it: their answers, or else their labels.

        Args:
            positions: Which examples.
            kind: What an answer is.
            classes: C.

        Returns:
            Classes [B], values [B], or probabilities by class or label [B, C].
        """
        if self.answers is not None:
            return self.answers[list(positions)]
        return label_tensor([(self.labels or [])[position] for position in positions], kind, classes)


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    *,
    max_length: int,
    long_texts: LongTexts,
) -> Encoded:
    """Tokenise texts, shortening those that are too long.

    A text without any token (an empty one, by a tokenizer that adds no special tokens) becomes one padding token that
    counts as a real one, so that it has an answer, and the same answer alone and beside others.

    Args:
        tokenizer: The model's tokenizer.
        texts: First halves.
        pairs: Second halves, for tasks on pairs.
        labels: Classes or values.
        max_length: Most tokens per example, special ones included.
        long_texts: What is read of longer ones.

    Returns:
        The encoded examples, in the given order.

    Raises:
        UsageError: The tokenizer cannot shorten texts in this way.
    """
    check_tokenizer(tokenizer, long_texts)
    # One token more than allowed shows which texts are too long; only those are tokenised anew.
    kept = _tokens(tokenizer, texts, pairs, max_length + 1)
    truncated = [position for position, row in enumerate(kept["input_ids"]) if len(row) > max_length]
    if truncated:
        some = [pairs[position] for position in truncated] if pairs is not None else None
        longer = [texts[position] for position in truncated]
        if long_texts == "cut":
            shortened = _tokens(tokenizer, longer, some, max_length)
        else:
            shortened = read_longer(_call(tokenizer, longer, some, NO_LIMIT), max_length, long_texts)
        for name, rows in kept.items():
            for position, row in zip(truncated, shortened[name], strict=True):
                rows[position] = row
    windows = None
    if long_texts == "window":
        windows = [split_evenly(len(row), max_length) for row in kept["input_ids"]]
    return Encoded(kept, list(labels) if labels is not None else None, truncated, windows)


def _tokens(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, longest: int
) -> dict[str, list[list[int]]]:
    """All texts at once: `input_ids`, and `token_type_ids` where the tokenizer gives them."""
    if not texts:
        return {"input_ids": []}
    rows = _call(tokenizer, texts, pairs, longest)
    nothing = {"input_ids": [padding_id(tokenizer)], "token_type_ids": [0]}
    return {name: [row or alone for row in rows[name]] for name, alone in nothing.items() if name in rows}


def _call(tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, longest: int) -> BatchEncoding:
    """What the tokenizer says of some texts, each of at most so many tokens."""
    whole = [whole_characters(text) for text in texts]
    others = [whole_characters(pair) for pair in pairs] if pairs is not None else None
    return tokenizer(whole, others, truncation=True, max_length=longest, verbose=False)


def label_tensor(labels: Sequence[Any], kind: Kind, classes: int) -> Tensor:
    """Labels as a model takes them.

    Args:
        labels: As in `Encoded`.
        kind: What an answer is.
        classes: C.

    Returns:
        Classes [B], values [B], or 0 and 1 by label [B, C].
    """
    if kind != "multilabel":
        return torch.tensor(labels)
    found = torch.zeros(len(labels), classes)
    for row, indices in enumerate(labels):
        found[row, indices] = 1
    return found


def encode_split(examples: Examples, tokenizer: Tokenizer, max_length: int, long_texts: LongTexts) -> Encoded:
    """Tokenise a split.

    Args:
        examples: The examples.
        tokenizer: The model's tokenizer.
        max_length: Most tokens per example, special ones included.
        long_texts: What is read of longer ones.

    Raises:
        UsageError: The tokenizer cannot shorten texts in this way.
    """
    return encode(
        tokenizer, examples.texts, examples.pairs, examples.labels, max_length=max_length, long_texts=long_texts
    )


class Padding(Protocol):
    """What knows the id of the padding token: a tokenizer, or an encoder's configuration."""

    pad_token_id: Any


def padding_id(padding: Padding) -> int:
    """The id of the padding token; 0 where there is none."""
    return int(padding.pad_token_id or 0)


def pad(padding: Padding, inputs: dict[str, list[list[int]]], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Pad examples on the right to the longest of them.

    Args:
        padding: For the padding token's id.
        inputs: As in `Encoded`.
        device: Where the tensors go.

    Returns:
        `input_ids`, `attention_mask` and, if given, `token_type_ids`, all [B, T].
    """
    rows = inputs["input_ids"]
    longest = max(map(len, rows))
    fill = {"input_ids": padding_id(padding), "token_type_ids": 0}
    batch = {
        name: torch.tensor([row + [fill[name]] * (longest - len(row)) for row in values])
        for name, values in inputs.items()
    }
    batch["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {name: tensor.to(device) for name, tensor in batch.items()}


def padded(
    padding: Padding, encoded: Encoded, positions: Sequence[int], device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """A batch of some examples.

    Args:
        padding: For the padding token's id.
        encoded: The examples.
        positions: Which of them.
        device: Where the tensors go.

    Returns:
        As `pad` gives it, with a row for every window; where an example has several, also `texts` [B], which numbers
        the examples.
    """
    rows = {name: [values[position] for position in positions] for name, values in encoded.inputs.items()}
    windows = None if encoded.windows is None else [encoded.windows[position] for position in positions]
    if windows is None or all(len(one) == 1 for one in windows):
        return pad(padding, rows, device)
    split = {
        name: [part for row, sizes in zip(values, windows, strict=True) for part in cut_into(row, sizes)]
        for name, values in rows.items()
    }
    texts = [number for number, one in enumerate(windows) for _ in one]
    return {**pad(padding, split, device), "texts": torch.tensor(texts, device=device)}


def cut_into(row: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """The tokens in parts of these sizes, one after the other."""
    return [list(row[end - size : end]) for end, size in zip(accumulate(sizes), sizes, strict=True)]


def single(batch: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """A batch of one example of a batch, with all its windows.

    Args:
        batch: As `padded` gives it, with `labels`.
        number: Which example of the batch.
    """
    texts = batch.get("texts")
    if texts is None:
        return {name: values[number : number + 1] for name, values in batch.items()}
    rows = texts == number
    own = {name: values[rows] for name, values in batch.items() if name not in ("texts", "labels")}
    return {**own, "texts": torch.zeros_like(texts[rows]), "labels": batch["labels"][number : number + 1]}


def tokens_per_batch(device: torch.device) -> int:
    """Most tokens of a batch where a whole data set runs on a device."""
    return TOKENS.get(device.type, TOKENS["cpu"])


def by_length(
    padding: Padding,
    encoded: Encoded,
    batch_size: int,
    device: torch.device | str = "cpu",
    *,
    tokens: int | None = None,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Batches of examples of like length, longest first, so that memory runs out at once or never.

    Args:
        padding: For the padding token's id.
        encoded: The examples.
        batch_size: Most examples per batch.
        device: Where the tensors go.
        tokens: Most tokens per batch, padding included; one example may have more.

    Yields:
        The positions of the examples, and their padded tensors, as `padded` gives them.
    """
    lengths = encoded.lengths
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    start = 0
    while start < len(order):
        size = batch_size if tokens is None else min(batch_size, max(tokens // max(lengths[order[start]], 1), 1))
        positions = order[start : start + size]
        yield positions, padded(padding, encoded, positions, device)
        start += size


def shared_by_length(
    padding: Padding, encoded: Encoded, batch_size: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """`by_length` over this process's share, with long and short examples for every process.

    Args:
        padding: For the padding token's id.
        encoded: The examples of all processes.
        batch_size: Most examples per batch, of each process.
        device: Where the tensors go.

    Yields:
        The positions among all examples, and their padded tensors, as `padded` gives them.
    """
    lengths = encoded.lengths
    own = distributed.share(sorted(range(len(lengths)), key=lambda position: -lengths[position]))
    for places, batch in by_length(padding, encoded.select(own), batch_size, device):
        yield [own[place] for place in places], batch


class BucketSampler(Sampler[int]):
    """Random order for training in which every batch holds examples of like length.

    Examples are shuffled, sorted by length within pools of 50 batches, cut into batches, and the batches shuffled.
    (transformers' own length grouping leaves the batches of a pool in order of length, so that training swings from
    long to short and back; the built-in task learns much slower with it.)

    Args:
        lengths: Tokens per example.
        batch_size: Examples per batch.
        seed: With the epoch, decides the order.
    """

    POOL = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The Trainer says which epoch comes, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = Random(self.seed * 1_000_003 + self.epoch)
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        size = self.POOL * self.batch_size
        batches = []
        for start in range(0, len(order), size):
            pool = sorted(order[start : start + size], key=self.lengths.__getitem__)
            batches += [pool[at : at + self.batch_size] for at in range(0, len(pool), self.batch_size)]
        # a short batch stays last, because the loader cuts the order into batches again
        short = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        rng.shuffle(batches)
        return (index for batch in batches + short for index in batch)
