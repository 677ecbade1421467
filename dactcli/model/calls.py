"""Checks of the arguments of a call to the model, and the errors for arguments that it does not support.

B batch, T tokens, E width of the word embeddings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dactcli.errors import UsageError
from dactcli.halting.base import Rule

# warnings of training calls that leave parts untrained
NO_LABELS = (
    "A training step without labels: a loss that is made from the logits (label smoothing, a loss of your own) trains "
    "the full-depth answer alone, without the layers' own losses and the price of a layer. Give the model labels to "
    "train those too."
)
FROZEN_HEADS = (
    "The exit heads after the layers are frozen and keep their weights. To train them too with PEFT, name them: "
    "modules_to_save=['units']."
)


def one_of(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """Token ids [B, T], or the word embeddings given in their place [B, T, E].

    Raises:
        UsageError: Both or none are given, or they are of another shape.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise UsageError("a call takes either input_ids or inputs_embeds", remedy="give one of them")
    found = inputs_embeds if input_ids is None else input_ids
    assert found is not None
    if found.dim() != (3 if input_ids is None else 2):
        raise UsageError(
            f"the texts come as {found.dim()} axes", remedy="give input_ids [B, T] or inputs_embeds [B, T, E]"
        )
    if len(found) and not found.shape[1]:
        raise UsageError("a text has no token", remedy="leave empty texts out, or give them one token, as dact does")
    return found


def number_of_texts(tokens: Tensor, texts: Tensor | None) -> int:
    """How many texts the rows of a batch belong to.

    Args:
        tokens: [B, T], or their embeddings [B, T, E].
        texts: The text of each row [B]; None where every row is a text.

    Raises:
        UsageError: `texts` does not number the texts of the rows from 0, ascending.
    """
    if texts is None:
        return len(tokens)
    if texts.shape != (len(tokens),) or not len(texts):
        raise UsageError(f"`texts` is {list(texts.shape)}", remedy=f"give the text of each of {len(tokens)} rows")
    if int(texts[0]) != 0 or not bool(((steps := texts.diff()) == 0).logical_or(steps == 1).all()):
        raise UsageError("`texts` does not count from 0", remedy="number the texts of the rows 0, 0, 1, 2, ...")
    return int(texts[-1]) + 1


def at_least_a_token(input_ids: Tensor | None, padding: int) -> Tensor | None:
    """Empty texts [B, 0], as a tokenizer without special tokens gives them, as one padding token each [B, 1].

    Returns:
        None where the texts have tokens, or there are none.
    """
    if input_ids is None or input_ids.dim() != 2 or not len(input_ids) or input_ids.shape[1]:
        return None
    return input_ids.new_full((len(input_ids), 1), padding, dtype=torch.long)


def check_mask(attention_mask: Tensor | None) -> None:
    """Refuse a mask that says more than which tokens are real.

    Raises:
        UsageError: It is not [B, T].
    """
    if attention_mask is not None and attention_mask.dim() != 2:
        raise UsageError(
            f"attention_mask has {attention_mask.dim()} axes", remedy="give 1 for real tokens and 0 for padding [B, T]"
        )


def no_attentions() -> UsageError:
    """The refusal of attention weights, with the call that gives them."""
    return UsageError(
        "attention weights are not kept",
        remedy="call model.encoder(..., output_attentions=True), after model.set_attn_implementation('eager')",
    )


def refuse_early(rule: Rule, **asked: Any) -> None:
    """Refuse what rows that left early do not have.

    Args:
        rule: The rule that lets them leave.
        **asked: What the call gave, by name; None and False ask for nothing.

    Raises:
        UsageError: It asks for something.
    """
    for name, value in asked.items():
        if value is not None and value is not False:
            raise UsageError(
                f"rule {rule} stops early, and {name} need every layer",
                remedy="give rule='full' to the call, or set model.config.rule = 'full'",
            )


def stand_in(tokens: Tensor) -> Tensor:
    """One row of zeros in the form of an empty batch, [1, T] or [1, T, E], T at least 1."""
    return tokens.new_zeros(1, max(tokens.shape[1], 1), *tokens.shape[2:])


class Untrained(torch.autograd.Function):
    """Passes a loss of early answers on, and refuses to train by it in a sentence of its own."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        """The loss as it is."""
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "the answers come from an early exit, which has no gradient",
            remedy="call model.train() before training, or give rule='full' to the call",
        )
