"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers, with positions counted from the padding id on."""

from __future__ import annotations

from typing import Any

from dactcli.errors import ArtefactError
from dactcli.model.encoders.bert import BertEncoder


class RobertaEncoder(BertEncoder):
    """As BERT; a row's first real token stands at position `pad_token_id` + 1, however it is padded."""

    @classmethod
    def longest(cls, config: Any) -> int:
        """The positions up to the padding id are spent."""
        return super().longest(config) - cls.counted_from(config) - 1

    @classmethod
    def counted_from(cls, config: Any) -> int:
        """The configured padding id.

        Raises:
            ArtefactError: There is none.
        """
        if not isinstance(config.pad_token_id, int):
            raise ArtefactError(
                f"pad_token_id is {config.pad_token_id!r}, and this encoder counts positions from it on",
                remedy="set it in config.json to the id of the tokenizer's padding token",
            )
        return config.pad_token_id
