"""Batches: what is cut is counted, padding is marked, lengths are bucketed, and nothing is lost on the way."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from dactcli.characters import whole_characters
from dactcli.data.agreement import vocabulary
from dactcli.data.batches import BucketSampler, by_length, encode, pad


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(vocabulary())}, do_lower_case=True)


def test_long_texts_are_cut_and_counted(tokenizer: BertTokenizerFast) -> None:
    texts = ["the key", "the key is old .", "", "the keys are old ."]
    encoded = encode(tokenizer, texts, max_length=7, long_texts="cut")
    assert encoded.lengths == [4, 7, 2, 7]
    assert encoded.truncated == [3]
    assert tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][3]) == [
        "[CLS]", "the", "key", "##s", "are", "old", "[SEP]",
    ]  # fmt: skip


def test_pairs_have_their_own_token_types(tokenizer: BertTokenizerFast) -> None:
    encoded = encode(tokenizer, ["the key"], ["is old"], max_length=16, long_texts="cut")
    assert encoded.inputs["token_type_ids"] == [[0, 0, 0, 0, 1, 1, 1]]


def bare_tokenizer(kind: str, padding: str | None = "[PAD]") -> PreTrainedTokenizerFast:
    """A tokenizer that adds no special tokens, so that an empty text has no token at all."""
    vocab = {"[UNK]": 0, "a": 1, "b": 2, "[PAD]": 3, "c": 4}
    model = models.WordLevel(vocab, unk_token="[UNK]") if kind == "words" else models.BPE(vocab, [], unk_token="[UNK]")
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token=padding, unk_token="[UNK]", model_max_length=16, long_texts="cut"
    )


@pytest.mark.parametrize("kind", ["words", "pieces"])
@pytest.mark.parametrize(("padding", "number"), [("[PAD]", 3), (None, 0)])
def test_a_text_without_tokens_is_one_padding_token_that_counts(kind: str, padding: str | None, number: int) -> None:
    tokenizer = bare_tokenizer(kind, padding)
    for texts in ([""], ["", "a b c"], ["a b c", "  ", ""]):
        encoded = encode(tokenizer, texts, max_length=8, long_texts="cut")
        batch = pad(tokenizer, encoded.inputs)
        for row, text in enumerate(texts):
            empty = not text.strip()
            assert encoded.lengths[row] == (1 if empty else 3)
            if empty:
                assert batch["input_ids"][row, 0] == number
                assert batch["attention_mask"][row].tolist() == [1] + [0] * (batch["input_ids"].shape[1] - 1)
    pairs = encode(tokenizer, ["", "a"], ["", ""], max_length=8, long_texts="cut")
    assert pairs.lengths == [1, 1]
    assert pairs.inputs["input_ids"][1] == [1]


def test_padding_is_marked(tokenizer: BertTokenizerFast) -> None:
    batch = pad(tokenizer, {"input_ids": [[2, 7, 3], [2, 3]], "token_type_ids": [[0, 0, 0], [0, 0]]})
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].shape == (2, 3)


def test_batches_go_from_long_to_short_and_know_their_positions(tokenizer: BertTokenizerFast) -> None:
    encoded = encode(tokenizer, ["the " * n for n in (3, 9, 1, 5, 7)], max_length=16, long_texts="cut")
    seen = list(by_length(tokenizer, encoded, 2))
    assert [positions for positions, _ in seen] == [[1, 4], [3, 0], [2]]
    for positions, batch in seen:
        assert batch["attention_mask"].sum(-1).tolist() == [encoded.lengths[position] for position in positions]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_takes_every_example_once_in_batches_of_like_length(lengths: list[int], size: int, seed: int) -> None:
    sampler = BucketSampler(lengths, size, seed)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths))) == list(range(len(sampler)))
    assert order == list(sampler)
    if len(lengths) <= size * BucketSampler.POOL:  # one pool: its batches, put in order, do not overlap in length
        batches = sorted([lengths[i] for i in order[at : at + size]] for at in range(0, len(order), size))
        full = [batch for batch in batches if len(batch) == size]
        spans = sorted((min(batch), max(batch)) for batch in full)
        assert all(high <= low for (_, high), (low, _) in pairwise(spans))


def test_epochs_differ_and_can_be_repeated() -> None:
    sampler = BucketSampler(list(range(100)), 4, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    again = BucketSampler(list(range(100)), 4, seed=1)
    again.set_epoch(1)
    assert list(again) == second
    assert torch.utils.data.BatchSampler(again, 4, drop_last=False).__len__() == 25


def test_halves_of_surrogate_pairs_become_characters() -> None:
    assert whole_characters("plain é") == "plain é"
    assert whole_characters("caf\udcc3\udca9") == "café"  # UTF-8 as an ASCII locale reads it
    assert whole_characters("a\ud83d b\udcff") == "a� b�"
