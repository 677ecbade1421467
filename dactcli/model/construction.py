"""A model around an encoder that is already loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dactcli.model.config import DactConfig
from dactcli.model.dact import DactForSequenceClassification

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from dactcli.model.kept import KeptClassifier


def from_encoder(
    encoder: PreTrainedModel, *, kept: KeptClassifier | None = None, **settings: Any
) -> DactForSequenceClassification:
    """A DACT model around an encoder that is already loaded, with new exit heads.

    Args:
        encoder: A transformers encoder of a supported family; its weights are used as they are.
        kept: The classifier that the encoder came with, to answer after the last layer; None for an exit head.
        **settings: Keywords of `DactConfig`.
    """
    config = DactConfig(
        encoder_config=cast("PreTrainedConfig", encoder.config), keep_classifier=kept is not None, **settings
    )
    model = DactForSequenceClassification(config, encoder=encoder, kept=kept)
    model.exit_heads.initialise()
    return model
