"""Save and load a model: weights, configuration, tokenizer, and the recipe beside them; everything checked.

Only safetensors are read, remote code never runs, and a configuration is screened before transformers sees it: an
architecture we do not know, a custom attention implementation or a layer count of zero stop here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from dactcli.errors import ArtefactError, RecipeError, ResourceError, UsageError, did_you_mean
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.encoders import Encoder, family
from dactcli.model.heads import HaltingInputs, Pooling
from dactcli.model.loss import AnswerLoss, Objective
from dactcli.model.rules import make_rule
from dactcli.model.tokenizers import check_fit, check_length, load_tokenizer, save_tokenizer
from dactcli.storage import FORMAT, check_format, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.recipe.schema import Recipe

# what a configuration may ask for at most; a layer count of a billion would be built before any weight is missed
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
LATEST = Path("runs/latest")


@dataclass(frozen=True)
class Run:
    """A saved model.

    Attributes:
        folder: Where it stands.
        model: In evaluation mode, on the CPU.
        tokenizer: Its tokenizer; `model_max_length` is the length that it was trained with.
        recipe: What it was trained by; None for a model that was saved without one.
    """

    folder: Path
    model: DactForSequenceClassification
    tokenizer: Tokenizer
    recipe: Recipe | None


def find_run(path: Path | None) -> Path:
    """The folder of a run.

    Args:
        path: A run folder or saved model; None for the newest finished run, `runs/latest`.

    Raises:
        ArtefactError: There is none; the sentence names the command that makes one.
    """
    if path is None:
        if not LATEST.exists():
            others = sorted(str(summary.parent) for summary in LATEST.parent.glob("*/summary.json"))
            if others:
                remedy = f"name a run: {', '.join(others[:5])}"
                raise ArtefactError("is not there", place=str(LATEST), remedy=remedy)
            raise ArtefactError(
                "there is no finished run in this folder",
                place=str(LATEST),
                remedy="name one, or make one with: dact finetune recipes/quickstart.yaml",
            )
        return LATEST.resolve()
    if not path.exists():
        near = [str(p) for p in path.parent.glob("*") if p.is_dir()] if path.parent.is_dir() else []
        raise ArtefactError(
            "no such run",
            place=str(path),
            remedy=did_you_mean(str(path), near) if near else "give a run folder",
        )
    if not path.is_dir():
        raise ArtefactError("is a file", place=str(path), remedy="give the run's folder")
    return path


def load_run(path: Path | None) -> Run:
    """Load a run or saved model, refusing what is incomplete, damaged or not a DACT model.

    Args:
        path: As for `find_run`.

    Raises:
        ArtefactError: It cannot be used; the sentence names the file.
    """
    folder = find_run(path)
    _screen(folder)
    model = _checked(folder, DactForSequenceClassification)
    tokenizer = load_tokenizer(folder)
    check_fit(tokenizer, model.config.encoder_config, str(folder))
    check_length(tokenizer, model.config.encoder_config, folder)
    return Run(folder, model.eval(), tokenizer, _recipe(folder))


def load_encoder(name: str, layers: int | None) -> PreTrainedModel:
    """A pretrained encoder, from a folder or the hub, without parts that no unit reads.

    Args:
        name: Folder or hub name.
        layers: Keep only the first so many layers; None for all.

    Raises:
        ArtefactError: It is not there, of an unsupported family, too shallow, or damaged.
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
        with _placed(name):
            kind.cut(config, layers)
    model: PreTrainedModel = _checked(name, AutoModel, config=config, partial=True, **kind.build)
    return model


def load_classifier(name: str) -> PreTrainedModel:
    """A classifier that was fine-tuned with transformers, from a folder or the hub.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: It is not there, no sequence classifier, of an unsupported family, or damaged.
    """
    from transformers import AutoModelForSequenceClassification

    config, _ = pretrained_config(name)
    if not any(kind.endswith("ForSequenceClassification") for kind in config.architectures or ()):
        raise ArtefactError(
            f"is no sequence classifier: its config.json names {', '.join(config.architectures or ['nothing'])}",
            place=name,
            remedy="name a fine-tuned classifier, or leave out model.keep_classifier",
        )
    model: PreTrainedModel = _checked(name, AutoModelForSequenceClassification, config=config)
    return model


def pretrained_config(name: str) -> tuple[Any, type[Encoder]]:
    """The screened configuration of an encoder or classifier, and its family's adapter.

    Args:
        name: Folder or hub name.

    Raises:
        ArtefactError: It is not there, of an unsupported family, or damaged.
    """
    from transformers import AutoConfig

    folder = Path(name)
    if folder.is_dir():
        _screen(folder, bare=True)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a configuration's own checks raise kinds of their own
        raise ArtefactError(
            f"the encoder cannot be loaded: {_first_line(error)}",
            place=name,
            remedy="give a folder with config.json and model.safetensors, or a hub name that this machine reaches",
        ) from None
    with _placed(name):
        return config, family(config.model_type)


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Name the place in errors that do not know it."""
    try:
        yield
    except (ArtefactError, RecipeError, UsageError) as error:
        raise ArtefactError(error.fault, place=error.place or place, remedy=error.remedy) from None


def save_model(model: DactForSequenceClassification, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: Where to; made if missing.

    Raises:
        ResourceError: The disk is full, or the folder cannot be written.
    """
    model.config.dact_format = FORMAT
    try:
        with without_bars():
            model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # the kinds of Python, torch and safetensors
        raise unsaved(folder, error) from None


def unsaved(folder: Path, error: Exception) -> ResourceError:
    """The error of a model or checkpoint that could not be written."""
    # torch's own words for a full disk are a line of its source
    reason = "the disk took only a part of it" if isinstance(error, RuntimeError) else _first_line(error)
    return ResourceError(
        f"cannot be written: {reason}",
        place=str(folder),
        remedy="free the disk or its limit; what was saved before is untouched, and --resume goes on from it",
    )


def weights_digest(folder: Path) -> str:
    """SHA-256 of a saved model's weights."""
    return sha256(folder / "model.safetensors")


def _recipe(folder: Path) -> Recipe | None:
    from dactcli.recipe.load import load_recipe

    path = folder / "recipe.yaml"
    if not path.is_file():
        return None
    with _placed(str(path)):
        return load_recipe(path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _screen(folder: Path, *, bare: bool = False) -> None:
    """Refuse a config.json that names anything but what we run; `bare` is for an encoder without units."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "recipe.yaml").is_file() and not (folder / "summary.json").exists():
            remedy = "go on with it: dact finetune RECIPE --resume, with what it was begun with"
            raise ArtefactError("is a training that has not finished", place=str(folder), remedy=remedy) from None
        raise ArtefactError("is missing", place=str(path), remedy="give the folder of a saved model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"cannot be read: {_first_line(error)}", place=str(path), remedy="save the model again"
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
    """Refuse values of our own keys that no model of ours was saved with."""
    allowed = {
        "objective": get_args(Objective),
        "pooling": get_args(Pooling),
        "halting_inputs": get_args(HaltingInputs),
        "answer_loss": get_args(AnswerLoss),
    }
    for key, values in allowed.items():
        if key in config and config[key] not in values:
            raise ArtefactError(
                f"{key} is {config[key]!r}", place=str(path), remedy=f"it must be one of {', '.join(values)}"
            )
    _screen_class_weights(config, path)
    names, bounds, rule = config.get("id2label"), config.get("answer_range"), config.get("rule")
    if names is not None and (not isinstance(names, dict) or set(names) != {str(n) for n in range(len(names))}):
        raise ArtefactError("id2label does not number the classes from 0", place=str(path), remedy="save it again")
    if bounds is not None and not (isinstance(bounds, list) and len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ArtefactError(f"answer_range is {bounds!r}", place=str(path), remedy="it must be [lowest, highest]")
    if rule is not None:
        with _placed(str(path)):
            make_rule(
                str(rule),
                objective=config.get("objective", "dact"),
                answer_range=tuple(bounds) if bounds else None,
                certainty=bool(config.get("certainty")),
                place=f"{path}: rule",
            )


def _screen_class_weights(config: dict[str, Any], path: Path) -> None:
    weights, classes = config.get("class_weights"), len(config.get("id2label") or (0, 1))  # transformers' own default
    if weights is None:
        return
    numbers = isinstance(weights, list) and all(type(weight) in (int, float) and weight > 0 for weight in weights)
    if not numbers or len(weights) != classes:
        raise ArtefactError(
            "class_weights does not give each class a number above 0", place=str(path), remedy="save it again"
        )


def _screen_encoder(config: dict[str, Any], path: Path) -> None:
    _screen_values(config, path)
    with _placed(str(path)):
        kind = family(str(config.get("model_type")))
    sizes = {key: (1, most) for key, most in SIZES.items()} | kind.sizes
    for key, (least, most) in sizes.items():
        # transformers reads a size by either of its names
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
    """Refuse sizes that the weights beside them cannot have, before memory is taken for them."""
    held = sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
    asked = kind.fewest_weights(sizes)
    if held and asked > held:  # a weight takes a byte at the very least
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
            "auto_map asks for code from elsewhere, which is never run",
            place=str(path),
            remedy="remove auto_map",
        )


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' bars of weights loaded and written off the screen, and give them back afterwards."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _checked(name: str | Path, kind: Any, *, partial: bool = False, **options: Any) -> Any:
    """`kind.from_pretrained`, failing on every weight that is missing, misshapen or not finite.

    `partial` allows weights in the file that the model does not take (a pooler, a language-model head, cut layers).
    """
    try:
        with without_bars():
            model, info = kind.from_pretrained(
                str(name),
                use_safetensors=True,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                **options,
            )
    except Exception as error:  # safetensors, json and torch raise their own kinds for damaged files
        raise ArtefactError(
            f"the weights cannot be loaded: {_first_line(error)}",
            place=str(name),
            remedy="check model.safetensors and config.json, or save the model again",
        ) from None
    faults = {what: info[f"{what}_keys"] for what in ("missing", "mismatched", "unexpected")}
    if partial:
        del faults["unexpected"]
    for what, keys in faults.items():
        if keys:
            first = sorted(map(str, keys))[0]
            raise ArtefactError(
                f"{len(keys)} weights are {what}, first {first}",
                place=str(Path(name) / "model.safetensors"),
                remedy="the file does not belong to this config.json; save the model again",
            )
    for parameter, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise ArtefactError(
                f"{parameter} holds values that are not finite",
                place=str(Path(name) / "model.safetensors"),
                remedy="train it again, or use an earlier checkpoint",
            )
    return model
