"""Layers run by hand give the library's own hidden states, whatever the padding, also with rows leaving."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import FAMILIES, random_batch, small_model

from dactcli.errors import ArtefactError
from dactcli.model.encoders import family
from dactcli.model.encoders.base import spans_of


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[7, 7, 7], [3, 9, 5], [12, 2, 2]])
@pytest.mark.parametrize("left", [False, True])
@torch.no_grad()
def test_layers_by_hand_equal_the_library(name: str, lengths: list[int], left: bool) -> None:
    model = small_model(name)
    batch = random_batch(model, lengths, left=left)
    assert torch.equal(by_hand(model, **batch), model.encoder(**batch).last_hidden_state)
    ids = {"input_ids": batch["input_ids"]}
    assert torch.equal(by_hand(model, **ids), model.encoder(**ids).last_hidden_state)


def by_hand(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The hidden states [B, T, H] after all layers, one by one."""
    state = model.adapter.embed(input_ids, attention_mask, None)
    for layer in range(1, model.units.layers + 1):
        state = model.adapter.run(layer, state)
    hidden: torch.Tensor = model.adapter.output(state)
    return hidden


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("left", [False, True])
@torch.no_grad()
def test_rows_that_leave_change_nothing_and_take_their_padding_along(name: str, left: bool) -> None:
    model = small_model(name)
    batch = random_batch(model, [4, 15, 6, 9], left=left)
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
    wanted = wanted[2, -6:] if left else wanted[2, :6]
    torch.testing.assert_close(model.adapter.output(state)[0], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("left", [False, True])
@torch.no_grad()
def test_joined_rows_go_on_as_they_would_have_alone(name: str, left: bool) -> None:
    model = small_model(name)
    batches = [random_batch(model, [4, 15], seed=1, left=left), random_batch(model, [9, 7], seed=2, left=left)]
    states = []
    for batch in batches:
        state = model.adapter.embed(batch["input_ids"], batch["attention_mask"], None)
        state.spans = spans_of(batch["attention_mask"], keep_first=False)
        states.append(model.adapter.run(1, state))
    states[1] = model.adapter.select(states[1], [1])
    joined = model.adapter.join(states)
    assert joined.hidden.shape[:2] == (3, 15)
    joined = model.adapter.run(4, model.adapter.run(3, model.adapter.run(2, joined)))
    hidden = model.adapter.output(joined)
    long, short = (model.encoder(**batch).last_hidden_state for batch in batches)
    torch.testing.assert_close(hidden[1], long[1], atol=1e-5, rtol=1e-5)
    real = slice(-4, None) if left else slice(4)
    torch.testing.assert_close(hidden[0, real], long[0, real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden[2, :7], short[1, -7:] if left else short[1, :7], atol=1e-5, rtol=1e-5)


def test_spans_name_holes_and_left_padding() -> None:
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    assert spans_of(mask, keep_first=False) == [(1, 3, True), (0, 4, False), (0, 4, True)]
    assert spans_of(mask, keep_first=True)[0] == (0, 3, False)


def test_other_families_are_refused_by_name() -> None:
    with pytest.raises(
        ArtefactError, match="encoders of type 'gpt2' are not supported; use one of bert, roberta, xlm-r"
    ):
        family("gpt2")
