"""Encoder families, by transformers' `model_type`. To add one: a file with its `Encoder`, and a line in `FAMILIES`."""

from __future__ import annotations

from typing import Any

from torch import nn

from dactcli.errors import ArtefactError
from dactcli.model.encoders.albert import AlbertEncoder
from dactcli.model.encoders.base import Encoder, EncoderState
from dactcli.model.encoders.bert import BertEncoder
from dactcli.model.encoders.deberta import DebertaEncoder
from dactcli.model.encoders.distilbert import DistilBertEncoder
from dactcli.model.encoders.electra import ElectraEncoder
from dactcli.model.encoders.modernbert import ModernBertEncoder
from dactcli.model.encoders.mpnet import MPNetEncoder
from dactcli.model.encoders.roberta import RobertaEncoder

FAMILIES: dict[str, type[Encoder]] = {
    "bert": BertEncoder,
    "roberta": RobertaEncoder,
    "xlm-roberta": RobertaEncoder,
    "camembert": RobertaEncoder,
    "distilbert": DistilBertEncoder,
    "electra": ElectraEncoder,
    "mpnet": MPNetEncoder,
    "albert": AlbertEncoder,
    "deberta-v2": DebertaEncoder,
    "modernbert": ModernBertEncoder,
}


def family(model_type: str) -> type[Encoder]:
    """The adapter of a family.

    Args:
        model_type: transformers' name of the architecture.

    Raises:
        ArtefactError: No adapter is known for it.
    """
    if model_type not in FAMILIES:
        raise ArtefactError(
            f"encoders of type {model_type!r} are not supported", remedy=f"use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def adapt(model: nn.Module) -> Encoder:
    """Wrap a transformers encoder so that it runs layer by layer."""
    config: Any = model.config
    return family(config.model_type)(model)


__all__ = ["FAMILIES", "Encoder", "EncoderState", "adapt", "family"]
