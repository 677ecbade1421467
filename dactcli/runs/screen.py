"""Screen an untrusted config.json before transformers reads it.

Unknown architectures, custom attention implementations, remote code, and sizes that do not fit the weights are refused
here, before any code runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from dactcli.errors import ArtefactError, RecipeError, UsageError, first_line
from dactcli.halting.answers import Classes, Values
from dactcli.halting.base import NEEDS
from dactcli.halting.label_sets import LabelSets
from dactcli.halting.rules import make_rule
from dactcli.model.config import CHOICES, MULTILABEL, check_thresholds, from_flat
from dactcli.model.encoders import Encoder, family
from dactcli.recipe.settings import HaltingSettings, first_fault
from dactcli.storage import check_format

# upper limits; transformers would build a billion layers before it missed a weight
SIZES = {
    "num_hidden_layers": 1_000,
    "hidden_size": 100_000,
    "embedding_size": 100_000,
    "num_attention_heads": 10_000,
    "intermediate_size": 1_000_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 10_000_000,
    "type_vocab_size": 10_000,
}
NUMBERS = ("layer_norm_eps", "initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")
ATTENTION = (None, "eager", "sdpa")


def screen(folder: Path, *, bare: bool = False) -> None:
    """Refuse a config.json that names anything unsupported; `bare` is for an encoder without exit heads."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "recipe.yaml").is_file() and not (folder / "summary.json").exists():
            remedy = "resume it: dact finetune RECIPE --resume, with what it was begun with"
            raise ArtefactError("is a training that has not finished", place=str(folder), remedy=remedy) from None
        raise ArtefactError("is missing", place=str(path), remedy="give the folder of a saved model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"cannot be read: {first_line(error)}", place=str(path), remedy="save the model again"
        ) from None
    if not isinstance(config, dict):
        raise ArtefactError("is not a JSON object", place=str(path), remedy="save the model again")
    if bare:
        _screen_encoder(config, path)
        return
    if config.get("model_type") != "dact":
        raise ArtefactError(
            f"this is a model of type {config.get('model_type')!r}, not a DACT model",
            place=str(path),
            remedy="name it as model.encoder in a recipe and run dact finetune",
        )
    check_format(config.get("dact_format"), str(path))
    _screen_values(config, path)
    _screen_dact(config, path)
    encoder = config.get("encoder_config")
    if not isinstance(encoder, dict):
        raise ArtefactError("encoder_config is missing", place=str(path), remedy="save the model again")
    _screen_encoder(encoder, path)


def _screen_dact(config: dict[str, Any], path: Path) -> None:
    """Refuse values of dact's own keys that dact never writes."""
    with placed(str(path)):
        config = from_flat(config)
    for key, values in CHOICES.items():
        if key in config and config[key] not in values:
            raise ArtefactError(
                f"{key} is {config[key]!r}", place=str(path), remedy=f"it must be one of {', '.join(values)}"
            )
    halting = _screen_halting(config, path)
    names, bounds, rule = config.get("id2label"), config.get("answer_range"), config.get("rule")
    if names is not None and (not isinstance(names, dict) or set(names) != {str(n) for n in range(len(names))}):
        raise ArtefactError("id2label does not number the classes from 0", place=str(path), remedy="save it again")
    if bounds is not None and not (isinstance(bounds, list) and len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ArtefactError(f"answer_range is {bounds!r}", place=str(path), remedy="it must be [lowest, highest]")
    several = config.get("problem_type") == MULTILABEL
    with placed(str(path)):
        check_thresholds(config.get("label_thresholds"), len(names or (0, 1)), config.get("problem_type"))
    if rule is not None:
        with placed(str(path)):
            make_rule(
                str(rule),
                objective=halting.objective,
                answers=LabelSets() if several else Values(*bounds) if bounds else Classes(),
                has=[name for name in NEEDS if config.get(name)],
                place=f"{path}: rule",
            )


def _screen_halting(config: dict[str, Any], path: Path) -> HaltingSettings:
    """Parse the halting settings of a configuration; refuse unknown keys and impossible values."""
    given = config.get("halting", {})
    if not isinstance(given, dict):
        raise ArtefactError("halting is not a mapping", place=str(path), remedy="save the model again")
    try:
        found = HaltingSettings(**given)
    except ValidationError as error:
        key, fault = first_fault(error)
        name = key.partition(".")[0]
        if name == "class_weights":
            raise _unfit_class_weights(path) from None
        field = HaltingSettings.model_fields.get(name)
        choices = get_args(field.annotation) if field is not None else ()
        if choices and all(isinstance(choice, str) for choice in choices):
            fault = f"is {given[name]!r}; it must be one of {', '.join(choices)}"
        elif field is not None:
            fault = f"is {given[name]!r}; it {fault}"
        fault, _, remedy = f"{name} {fault}".strip().partition("; ")
        raise ArtefactError(fault, place=str(path), remedy=remedy or "save the model again") from None
    classes = len(config.get("id2label") or (0, 1))  # the default in transformers
    if found.class_weights is not None and len(found.class_weights) != classes:
        raise _unfit_class_weights(path)
    return found


def _unfit_class_weights(path: Path) -> ArtefactError:
    return ArtefactError(
        "class_weights does not give each class a number above 0", place=str(path), remedy="save it again"
    )


def _screen_encoder(config: dict[str, Any], path: Path) -> None:
    _screen_values(config, path)
    with placed(str(path)):
        kind = family(str(config.get("model_type")))
    sizes = {key: (1, most) for key, most in SIZES.items()} | kind.sizes
    for key, (least, most) in sizes.items():
        # transformers accepts both names of a size
        for name in {key, kind.names.get(key, key)} & set(config):
            size = config[name]
            if not isinstance(size, int) or isinstance(size, bool) or not least <= size <= most:
                raise ArtefactError(
                    f"{name} is {size!r}", place=str(path), remedy=f"it must be a whole number from {least} to {most:,}"
                )
    for key in NUMBERS:
        for name in {key, kind.names.get(key, key)} & set(config):
            if isinstance(value := config[name], bool) or not isinstance(value, int | float):
                raise ArtefactError(f"{name} is {value!r}", place=str(path), remedy="it must be a number")
    _screen_memory(kind, {**config, **{key: config[own] for key, own in kind.names.items() if own in config}}, path)


def _screen_memory(kind: type[Encoder], sizes: dict[str, Any], path: Path) -> None:
    """Refuse sizes that exceed the weight files, before allocating memory for them."""
    held = sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
    asked = kind.fewest_weights(sizes)
    if held and asked > held:  # a weight takes at least one byte
        raise ArtefactError(
            f"config.json asks for at least {asked:,} weights, and the safetensors files hold {held:,} bytes",
            place=str(path.parent),
            remedy="one of them is damaged, or they do not belong together; save the model again",
        )


def _screen_values(config: dict[str, Any], path: Path) -> None:
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        if config.get(key) not in ATTENTION:
            raise ArtefactError(
                f"{key} is {config[key]!r}, which could run foreign code",
                place=str(path),
                remedy="remove it, or use eager or sdpa",
            )
    if "auto_map" in config:
        raise ArtefactError(
            "auto_map asks for remote code, which dact never runs",
            place=str(path),
            remedy="remove auto_map",
        )


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Add the place to errors that lack one."""
    try:
        yield
    except (ArtefactError, RecipeError, UsageError) as error:
        raise ArtefactError(error.fault, place=error.place or place, remedy=error.remedy) from None
