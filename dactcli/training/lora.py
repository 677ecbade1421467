"""LoRA: low-rank weights beside the linear layers of a pretrained encoder, by PEFT.

They are trained in place of the encoder's own weights, and merged into these when training ends.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dactcli.errors import RecipeError
from dactcli.model.encoders import adapt
from dactcli.recipe.schema import Recipe
from dactcli.runs.load import unsaved

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

ADAPTER = "adapter"  # folder of a run: the LoRA weights in PEFT's format, for use without dact


def check_adapter(recipe: Recipe) -> None:
    """Refuse a recipe with an adapter where PEFT is not installed.

    Args:
        recipe: A complete recipe.

    Raises:
        RecipeError: PEFT is missing.
    """
    from importlib.util import find_spec

    if recipe.model.lora is not None and find_spec("peft") is None:
        raise RecipeError(
            "is lora, and peft is not installed", place="model.adapter", remedy="pip install 'dactcli[peft]'"
        )


def add_lora(model: DactForSequenceClassification, recipe: Recipe) -> Any:
    """Put LoRA weights beside all linear layers of the encoder's layers; they change no answer yet.

    Args:
        model: The untrained model; its encoder is changed in place.
        recipe: A complete recipe.

    Returns:
        The `peft.PeftModel` around the encoder; None without an adapter.

    Raises:
        RecipeError: The rank exceeds the encoder's width.
    """
    settings = recipe.model.lora
    if settings is None:
        return None
    width = model.config.encoder_config.hidden_size
    if settings.rank > width:
        raise RecipeError(
            f"is {settings.rank}, and this encoder is {width} wide",
            place="model.adapter.rank",
            remedy=f"set it to {width} or less; 8 to 64 is usual",
        )
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank if settings.alpha is None else settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_names(model),
    )
    with warnings.catch_warnings():
        # PEFT reads an attribute that transformers renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model.encoder, config)


def linear_names(model: DactForSequenceClassification) -> list[str]:
    """Names of the linear modules in the encoder's layers, relative to a layer: `attention.self.query`."""
    found = {
        name
        for layer in adapt(model.encoder).layers
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    }
    return sorted(found)


def save_adapter(adapter: Any, run: Path) -> None:
    """Write the LoRA weights into a run folder, in PEFT's format.

    Args:
        adapter: As `add_lora` returned it, before `merge`.
        run: The run folder.

    Raises:
        ResourceError: The disk is full, or the folder cannot be written.
    """
    folder = run / ADAPTER
    try:
        adapter.save_pretrained(folder, save_embedding_layers=False)
    except (OSError, RuntimeError) as error:
        raise unsaved(folder, error) from None


def merge(adapter: Any) -> None:
    """Merge LoRA weights into the encoder, which is again one of its family, in place."""
    adapter.merge_and_unload()
