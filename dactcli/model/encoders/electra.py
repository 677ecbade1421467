"""ELECTRA's discriminator: BERT's layers, on embeddings that are narrower in the small models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from dactcli.model.encoders.base import Words
from dactcli.model.encoders.bert import BertEncoder


class ElectraEncoder(BertEncoder):
    """As BERT, with a projection of the embeddings where they are not H wide."""

    build: ClassVar[dict[str, Any]] = {}

    @classmethod
    def fewest_weights(cls, config: Mapping[str, int]) -> int:
        """Embeddings of their own width, and the layers."""
        return super().fewest_weights({"embedding_size": 1, **config})

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word, position and type embeddings, projected to [B, T, H]."""
        hidden = super().embeddings(words, attention_mask, token_type_ids)
        if hasattr(self.model, "embeddings_project"):
            hidden = self.model.embeddings_project(hidden)
        return hidden
