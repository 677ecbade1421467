"""Load a pretrained encoder, or a classifier that was fine-tuned elsewhere, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dactcli.errors import ArtefactError, first_line
from dactcli.model.config import MULTILABEL
from dactcli.model.encoders import Encoder, family
from dactcli.runs.screen import placed, screen
from dactcli.runs.weights import load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_encoder(name: str, layers: int | None) -> PreTrainedModel:
    """A pretrained encoder, from a folder or the hub, without the parts that no exit head reads.

    Args:
        name: Folder or hub name.
        layers: Number of layers to keep, counted from the first; None for all.

    Raises:
        ArtefactError: The encoder is missing, damaged, too shallow, or of an unsupported family.
    """
    from transformers import AutoModel

    config, kind = pretrained_config(name)
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise ArtefactError(
                f"the encoder has {config.num_hidden_layers} layers, not {layers}",
                place=name,
                remedy="lower model.layers",
            )
        with placed(name):
            kind.cut(config, layers)
    model: PreTrainedModel = load_weights(name, AutoModel, config=config, partial=True, **kind.build)
    return model


def load_classifier(name: str) -> PreTrainedModel:
    """A classifier that was fine-tuned with transformers, from a folder or the hub.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: The classifier is missing, damaged, of another kind, or of an unsupported family.
    """
    from transformers import AutoModelForSequenceClassification

    config = _classifier_config(name)
    model: PreTrainedModel = load_weights(name, AutoModelForSequenceClassification, config=config)
    return model


def _classifier_config(name: str) -> Any:
    """The screened configuration of a sequence classifier."""
    config, _ = pretrained_config(name)
    if not any(kind.endswith("ForSequenceClassification") for kind in config.architectures or ()):
        raise ArtefactError(
            f"is not a sequence classifier: its config.json names {', '.join(config.architectures or ['nothing'])}",
            place=name,
            remedy="name a fine-tuned classifier, or leave out model.keep_classifier",
        )
    return config


def answers_of_classifier(name: str) -> tuple[list[str], Literal["classes", "multilabel"]]:
    """The names of a classifier's classes or labels, and which of the two they are.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: It is missing or damaged, or answers with a value.
    """
    config = _classifier_config(name)
    if config.problem_type == "regression" or config.num_labels < 2:
        raise ArtefactError(
            "answers with a value", place=name, remedy="name a classifier of two or more classes or labels"
        )
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    if len(set(labels)) < len(labels):
        raise ArtefactError(
            "has classes of the same name", place=name, remedy="give each its own in id2label of config.json"
        )
    return labels, "multilabel" if config.problem_type == MULTILABEL else "classes"


def pretrained_config(name: str) -> tuple[Any, type[Encoder]]:
    """The screened configuration of an encoder or classifier, and its family's adapter.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: The model is missing, damaged, or of an unsupported family.
    """
    from transformers import AutoConfig

    folder = Path(name)
    if folder.is_dir():
        screen(folder, bare=True)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # configurations raise their own exception types
        raise ArtefactError(
            f"the encoder cannot be loaded: {first_line(error)}",
            place=name,
            remedy="give a folder with config.json and model.safetensors, or a hub name that this machine reaches",
        ) from None
    with placed(name):
        return config, family(config.model_type)
