"""ALBERT: layers that share their weights in groups, on embeddings that are narrower than the hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dactcli.errors import ArtefactError
from dactcli.model.encoders.base import Words
from dactcli.model.encoders.bert import BertEncoder


class AlbertEncoder(BertEncoder):
    """Layer n is a pass through its group, which has the weights of its neighbours too."""

    dropout: ClassVar[str] = "classifier_dropout_prob"
    sizes: ClassVar[dict[str, tuple[int, int]]] = {"num_hidden_groups": (1, 1_000), "inner_group_num": (1, 1_000)}

    @classmethod
    def cut(cls, config: Any, layers: int) -> None:
        """Keep the first layers in the groups that they are in."""
        each, rest = divmod(config.num_hidden_layers, config.num_hidden_groups)
        if config.num_hidden_groups > 1:
            if rest or layers % each:
                raise ArtefactError(
                    f"the encoder's {config.num_hidden_layers} layers share {config.num_hidden_groups} sets of weights",
                    remedy=f"set model.layers to a multiple of {each}" if not rest else "keep all layers",
                )
            config.num_hidden_groups = layers // each
        super().cut(config, layers)

    @classmethod
    def fewest_weights(cls, config: Mapping[str, int]) -> int:
        """Embeddings of their own width, and the layers of each group once."""
        once = config.get("num_hidden_groups", 1) * config.get("inner_group_num", 1)
        return super().fewest_weights({"embedding_size": 1, **config, "num_hidden_layers": once})

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The group of each layer."""
        groups, layers = self.model.encoder.albert_layer_groups, self.model.config.num_hidden_layers
        return [groups[int(layer / (layers / len(groups)))] for layer in range(layers)]

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word, position and type embeddings, mapped to [B, T, H]."""
        narrow = super().embeddings(words, attention_mask, token_type_ids)
        hidden: Tensor = self.model.encoder.embedding_hidden_mapping_in(narrow)
        return hidden
