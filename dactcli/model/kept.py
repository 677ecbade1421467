"""The classifier that came with an encoder, kept as it was: transformers' own, with its encoder taken out.

A classifier that someone fine-tuned answers from the last hidden states by modules that differ by family (a pooler, a
dense layer, which activation). They are not written again here: the library's class is kept, and in the place of its
encoder stands one that gives back the hidden states that it is handed. B batch, T tokens, H hidden size, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from dactcli.errors import ArtefactError


class _HiddenStates(nn.Module):
    """Stands for an encoder that has run already; keeps its pooler, where that is the encoder's.

    Args:
        encoder: The encoder it takes the place of.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.pooler: nn.Module | None = getattr(encoder, "pooler", None)
        self.activation: nn.Module | None = getattr(encoder, "pooler_activation", None)  # ALBERT's

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPooling:
        """The hidden states [B, T, H] as they came, pooled."""
        pooled = None
        if self.pooler is not None:
            pooled = self.pooler(inputs_embeds if self.activation is None else inputs_embeds[:, 0])
            pooled = pooled if self.activation is None else self.activation(pooled)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


class KeptClassifier(nn.Module):
    """From the last hidden states to the classes, exactly as the classifier did; it is not trained.

    Args:
        classifier: The classifier; its encoder is taken out of it, and left without a pooler.

    Raises:
        ArtefactError: It answers with a value.
    """

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        kind = classifier.config.problem_type
        if kind == "regression" or classifier.config.num_labels < 2:
            raise ArtefactError(
                f"the classifier is made for {kind or 'regression'}",
                remedy="keep one that chooses among two or more classes or labels",
            )
        encoder: Any = classifier.base_model
        setattr(classifier, classifier.base_model_prefix, _HiddenStates(encoder))
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # it went with the classifier; the encoder is a bare one now
        self.classifier: Any = classifier.requires_grad_(False).eval()

    @classmethod
    def blank(cls, config: Any, classes: int) -> KeptClassifier:
        """One whose weights are still to be loaded.

        Args:
            config: The encoder's configuration.
            classes: C.
        """
        own = type(config).from_dict({**config.to_dict(), "id2label": {index: str(index) for index in range(classes)}})
        return cls(AutoModelForSequenceClassification.from_config(own, trust_remote_code=False))

    def train(self, mode: bool = True) -> KeptClassifier:
        """Stays in evaluation mode: what it answers is what it always answered."""
        return super().train(False)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Logits of y_N.

        Args:
            hidden: The last hidden states, after a final norm where the family has one [B, T, H].
            attention_mask: 1 for real tokens [B, T]; None when nothing is padded.

        Returns:
            [B, C], float32; computed in float32 as well, because some families average over tokens.
        """
        weights = {
            name: value.to(torch.promote_types(value.dtype, torch.float32))
            for name, value in self.classifier.state_dict(keep_vars=True).items()
            if value.is_floating_point()
        }
        seen = {"inputs_embeds": hidden.to(torch.promote_types(hidden.dtype, torch.float32))}
        found = functional_call(self.classifier, weights, kwargs={**seen, "attention_mask": attention_mask})
        logits: Tensor = found.logits
        return logits.float()
