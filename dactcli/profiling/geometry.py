"""Models with random weights, and depth profiles: what adaptive depth would buy, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dactcli.data.batches import Encoded
from dactcli.errors import ArtefactError, UsageError, did_you_mean
from dactcli.model.encoders import family

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

# (layers, hidden size, attention heads) as published; the inner size is four times the hidden one
GEOMETRIES: dict[str, tuple[str, int, int, int]] = {
    "bert-tiny": ("bert", 2, 128, 2),
    "bert-mini": ("bert", 4, 256, 4),
    "bert-small": ("bert", 4, 512, 8),
    "bert-medium": ("bert", 8, 512, 8),
    "bert-base": ("bert", 12, 768, 12),
    "bert-large": ("bert", 24, 1024, 16),
    "minilm-l6": ("bert", 6, 384, 12),
    "roberta-base": ("roberta", 12, 768, 12),
    "roberta-large": ("roberta", 24, 1024, 16),
}


def random_model(geometry: str) -> DactForSequenceClassification:
    """A model of that geometry with random weights and two classes.

    Args:
        geometry: A name of `GEOMETRIES`, or the path of a transformers config.json.

    Raises:
        UsageError: There is no such geometry or file.
        ArtefactError: The file does not describe a supported encoder.
    """
    from dactcli.model.dact import DactConfig, DactForSequenceClassification

    torch.manual_seed(0)
    model = DactForSequenceClassification(DactConfig(encoder_config=_settings(geometry), num_labels=2))
    model.eval()
    return model


def _settings(geometry: str) -> dict[str, Any]:
    if geometry in GEOMETRIES:
        kind, layers, hidden, heads = GEOMETRIES[geometry]
        positions = {"max_position_embeddings": 514, "vocab_size": 50265} if kind == "roberta" else {}
        return {
            "model_type": kind,
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
            **positions,
        }
    path = Path(geometry)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        remedy = f"{did_you_mean(geometry, GEOMETRIES)}, or give the path of a config.json"
        raise UsageError(f"geometry {geometry!r} is unknown", place="`random`", remedy=remedy)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = {"model_type", *family(found["model_type"]).geometry}
        # sizes only: nothing in the file may choose code
        sizes = {key: value for key, value in found.items() if key in kept or isinstance(value, (int, float))}
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(
            "is not an encoder configuration", place=str(path), remedy="give a transformers config.json"
        ) from None
    return sizes


def random_examples(model: DactForSequenceClassification, examples: int, tokens: int) -> Encoded:
    """Examples of random token ids, all of one length.

    Args:
        model: For the size of its vocabulary and its positions.
        examples: How many.
        tokens: Tokens of each.

    Raises:
        UsageError: The encoder cannot take that many tokens.
    """
    config = model.config.encoder_config
    most = family(config.model_type).longest(config)
    if tokens > most:
        raise UsageError(f"the encoder takes at most {most} tokens", place="`sequence_length`", remedy="lower it")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(5, config.vocab_size - 1), config.vocab_size, (examples, tokens), generator=generator)
    return Encoded({"input_ids": ids.tolist()}, None, [])


def stretched(encoded: Encoded, tokens: int) -> Encoded:
    """Real examples brought to one length: cut, or their inner tokens repeated; first and last token stay.

    Args:
        encoded: The examples.
        tokens: Tokens of each.
    """

    def fit(row: list[int]) -> list[int]:
        inner = row[1:-1] or row[:1]
        repeated = inner * (tokens // len(inner) + 1)
        return [row[0], *repeated[: max(tokens - 2, 0)], row[-1]][:tokens]

    return Encoded({name: [fit(row) for row in rows] for name, rows in encoded.inputs.items()}, encoded.labels, [])


def depth_profile(text: str, layers: int, examples: int) -> Tensor:
    """The layer at which each example is made to stop.

    Args:
        text: `uniform` (1..N in equal shares), depths such as `2,3,12` (in equal shares), or a file of depths.
        layers: N.
        examples: E.

    Returns:
        1..N [E], in a random order that is always the same.

    Raises:
        UsageError: It is not understood, or a depth is none of 1..N.
    """
    depths = [*range(1, layers + 1)] if text == "uniform" else _numbers(text)
    if depths is None:
        try:
            depths = _numbers(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            depths = None
    if not depths or min(depths) < 1 or max(depths) > layers:
        raise UsageError(
            f"{text!r} is not a list of depths from 1 to {layers}",
            place="`depths`",
            remedy="write uniform, depths such as 2,3,3, or a file of depths",
        )
    shares = torch.tensor(depths).repeat(examples // len(depths) + 1)[:examples]
    return shares[torch.randperm(examples, generator=torch.Generator().manual_seed(0))]


def _numbers(text: str) -> list[int] | None:
    """Whole numbers set apart by commas, spaces or lines; None where there is anything else."""
    parts = text.replace(",", " ").replace("[", " ").replace("]", " ").split()
    return [int(part) for part in parts] if parts and all(part.isdigit() for part in parts) else None
