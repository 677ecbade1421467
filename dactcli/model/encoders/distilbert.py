"""DistilBERT: layers as BERT's in `transformer.layer`, no token types, and names of its own in config.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dactcli.model.encoders.base import Words
from dactcli.model.encoders.bert import BertEncoder


class DistilBertEncoder(BertEncoder):
    """Encoders with `embeddings(input_ids)` and `transformer.layer`."""

    build: ClassVar[dict[str, Any]] = {}
    dropout: ClassVar[str] = "seq_classif_dropout"
    names: ClassVar[dict[str, str]] = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    }

    @property
    def layers(self) -> Sequence[nn.Module]:
        """`transformer.layer`."""
        found: Sequence[nn.Module] = self.model.transformer.layer
        return found

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word and position embeddings [B, T, H]."""
        hidden: Tensor = self.model.embeddings(**words)
        return hidden
