"""Layers run by hand give the library's own hidden states, whatever the padding, also with rows leaving."""

from __future__ import annotations

import pytest
import torch
from support import FAMILIES, random_batch, small_model

from dactcli.errors import ArtefactError
from dactcli.model.encoders import family
from dactcli.model.encoders.base import spans_of


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[7, 7, 7], [3, 9, 5], [12, 2, 2]])
@torch.no_grad()
def test_layers_by_hand_equal_the_library(name: str, lengths: list[int]) -> None:
    model = small_model(name)
    batch = random_batch(model, lengths)
    wanted = model.encoder(**batch).last_hidden_state
    state = model.adapter.embed(batch["input_ids"], batch["attention_mask"], None)
    for layer in range(1, 5):
        state = model.adapter.run(layer, state)
    assert torch.equal(model.adapter.output(state), wanted)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_rows_that_leave_change_nothing_and_take_their_padding_along(name: str) -> None:
    model = small_model(name)
    batch = random_batch(model, [4, 15, 6, 9])
    wanted = model.encoder(**batch).last_hidden_state
    state = model.adapter.embed(batch["input_ids"], batch["attention_mask"], None)
    state.spans = spans_of(batch["attention_mask"], keep_first=False)
    state = model.adapter.run(2, model.adapter.run(1, state))
    state = model.adapter.select(state, [0, 2, 3])
    assert state.hidden.shape[:2] == (3, 9)
    state = model.adapter.run(3, state)
    state = model.adapter.select(state, [1])
    assert state.hidden.shape[:2] == (1, 6)
    assert state.attention_mask is None, "a row without padding needs no mask"
    state = model.adapter.run(4, state)
    torch.testing.assert_close(state.hidden[0], wanted[2, :6], atol=1e-5, rtol=1e-5)


def test_joined_rows_go_on_as_they_would_have_alone() -> None:
    model = small_model("bert")
    batches = [random_batch(model, [4, 15], seed=1), random_batch(model, [7], seed=2)]
    states = []
    for batch in batches:
        state = model.adapter.embed(batch["input_ids"], batch["attention_mask"], None)
        state.spans = spans_of(batch["attention_mask"], keep_first=False)
        states.append(model.adapter.run(1, state))
    joined = model.adapter.join(states)
    assert joined.hidden.shape[:2] == (3, 15)
    joined = model.adapter.run(4, model.adapter.run(3, model.adapter.run(2, joined)))
    long = model.encoder(**batches[0]).last_hidden_state
    torch.testing.assert_close(joined.hidden[1], long[1], atol=1e-5, rtol=1e-5)
    short = model.encoder(**batches[1]).last_hidden_state
    torch.testing.assert_close(joined.hidden[2, :7], short[0], atol=1e-5, rtol=1e-5)


def test_spans_name_holes_and_left_padding() -> None:
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    assert spans_of(mask, keep_first=False) == [(1, 3, True), (0, 4, False), (0, 4, True)]
    assert spans_of(mask, keep_first=True)[0] == (0, 3, False)


def test_other_families_are_refused_by_name() -> None:
    with pytest.raises(ArtefactError, match="encoders of type 'gpt2' are not supported; use one of bert, roberta"):
        family("gpt2")
