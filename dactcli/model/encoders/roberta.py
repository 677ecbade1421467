"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers, with positions counted from the padding id on."""

from __future__ import annotations

from typing import Any

from dactcli.model.encoders.bert import BertEncoder


class RobertaEncoder(BertEncoder):
    """As BERT; a row's first real token stands at position `pad_token_id` + 1, however it is padded."""

    @classmethod
    def longest(cls, config: Any) -> int:
        """The positions up to the padding id are spent."""
        return super().longest(config) - int(config.pad_token_id) - 1

    @classmethod
    def counted_from(cls, config: Any) -> int:
        """The configured padding id."""
        return int(config.pad_token_id)
