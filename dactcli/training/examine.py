"""Estimate data, model, time and memory of a recipe without training."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from dactcli import hub
from dactcli.data.batches import NO_LIMIT, Encoded, encode_split, padded
from dactcli.data.sources import Splits, load_splits
from dactcli.errors import ResourceError
from dactcli.model.encoders import family
from dactcli.recipe.schema import Recipe
from dactcli.results import PlanResult, SplitFacts
from dactcli.training.build import Built, build, from_hub, named_by_classifier, with_labels
from dactcli.training.classes import class_notices, imbalance_notices
from dactcli.training.frozen import count_parameters, freeze_for
from dactcli.training.plan import check_plan, describe_stages
from dactcli.training.stages import Stage, resolve_stages

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

MIB = 2**20
TIMED = 3  # timed steps, after one untimed warm-up step
OPTIMIZER_STATES = 2  # AdamW's, in float32


def examine(recipe: Recipe, *, device: torch.device) -> PlanResult:
    """Read all data, build the model, and run a few steps whose result is discarded.

    Args:
        recipe: A complete recipe.
        device: The device of the training.

    Raises:
        DactError: As `fit` would raise before its first step.
    """
    notices: list[str] = []
    with hub.reachable(from_hub(recipe), notices.append):
        return _examine(recipe, device, notices)


def _examine(recipe: Recipe, device: torch.device, notices: list[str]) -> PlanResult:
    recipe = named_by_classifier(recipe)
    splits = load_splits(recipe)
    recipe = with_labels(recipe, splits)
    check_plan(recipe)
    notices += [*splits.notices, *class_notices(splits, recipe), *imbalance_notices(splits, recipe)]
    built = build(recipe, splits, notices.append, only=list(splits.splits))
    notices += _long_notices(recipe, built)
    model, train = built.model.to(device).train(), built.encoded["train"]
    if train.labels is None:  # any answers do: the steps are timed and their result is discarded
        train = replace(train, answers=torch.full((len(train.lengths), model.classes), 1 / model.classes))
        built = replace(built, encoded={**built.encoded, "train": train})
    found = model.config.halting
    stages = resolve_stages(recipe, found.class_weights, found.tau_unit)
    steps = [_steps(stage, len(train.lengths)) for stage in stages]
    try:
        each = [_seconds(built, stage, device) * stage.keys.accumulate for stage in stages]
        memory = _memory(built, stages, device)
    except torch.OutOfMemoryError:
        raise ResourceError(
            "memory runs out at a batch of the longest examples",
            place="training.batch_size",
            remedy="lower it (and raise training.accumulate), or data.max_length",
        ) from None
    parameters, trainable = count_parameters(model, stages)
    seconds = sum(count * step for count, step in zip(steps, each, strict=True))
    encoder = model.config.encoder_config
    return PlanResult(
        splits={
            name: _facts(found, _whole_lengths(built, name, splits), splits.labels)
            for name, found in built.encoded.items()
        },
        encoder=f"{encoder.model_type} of width {encoder.hidden_size}",
        layers=model.exit_heads.layers,
        parameters=parameters,
        trainable_parameters=trainable,
        stages=describe_stages(recipe),
        steps=sum(steps),
        seconds_per_step=seconds / sum(steps),
        seconds=seconds,
        memory_mib=memory + OPTIMIZER_STATES * trainable * 4 / MIB,
        # two checkpoints of weights and optimizer, and the model of each stage
        disk_mib=((2 + len(stages) + 1) * parameters + 2 * OPTIMIZER_STATES * trainable) * 4 / MIB,
        device=str(device),
        notices=notices,
    )


def _whole_lengths(built: Built, split: str, splits: Splits) -> list[int]:
    """Tokens of each example of a split as it would be without a limit."""
    encoded, examples = built.encoded[split], splits.splits[split]
    lengths = encoded.lengths
    if encoded.truncated:
        whole = encode_split(examples.select(encoded.truncated), built.tokenizer, NO_LIMIT, "cut")
        for position, length in zip(encoded.truncated, whole.lengths, strict=True):
            lengths[position] = length
    return lengths


def _long_notices(recipe: Recipe, built: Built) -> list[str]:
    """What else could be done with long texts whose end is not read."""
    if recipe.data.long != "cut" or not any(encoded.truncated for encoded in built.encoded.values()):
        return []
    encoder, now = built.model.config.encoder_config, recipe.data.max_length
    # a new encoder gets as many positions as max_length asks for
    most = family(encoder.model_type).longest(encoder) if isinstance(recipe.model.encoder, str) else now + 1
    more = f"; data.max_length, now {now}, says how much of a text is read" if most > now else ""
    window = "data.long: window reads all of them, at a cost that grows with their length"
    return [f"data.long: head+tail reads the end of long texts too, at the same cost; {window}{more}"]


def _facts(encoded: Encoded, lengths: list[int], names: list[str]) -> SplitFacts:
    lengths = sorted(lengths)
    counts, sets = _counted(encoded.labels or [], names)
    return SplitFacts(
        examples=len(lengths),
        tokens_p50=lengths[len(lengths) // 2],
        tokens_p95=lengths[min(len(lengths) - 1, math.ceil(0.95 * len(lengths)))],
        tokens_max=lengths[-1],
        cut=len(encoded.truncated),
        labels={name: counts[label] / len(lengths) for label, name in enumerate(names)} if counts else {},
        counts={name: counts[label] for label, name in enumerate(names)} if counts else {},
        majority=max(sets.values()) / len(lengths) if sets else None,
        labels_mean=counts.total() / len(lengths) if any(isinstance(one, tuple) for one in sets) else None,
    )


def _counted(labels: list[Any], names: list[str]) -> tuple[Counter[int], Counter[Any]]:
    """How many examples have each class or label, and each answer: a class, or a whole label set."""
    if not names:
        return Counter(), Counter()
    answers = [tuple(one) if isinstance(one, list) else one for one in labels]
    return Counter(label for one in answers for label in (one if isinstance(one, tuple) else (one,))), Counter(answers)


def _steps(stage: Stage, examples: int) -> int:
    keys = stage.keys
    per_epoch = math.ceil(math.ceil(examples / keys.batch_size) / keys.accumulate)
    return keys.max_steps or math.ceil(per_epoch * keys.epochs)


def _batch(built: Built, positions: list[int], device: torch.device) -> dict[str, Any]:
    encoded = built.encoded["train"]
    batch = padded(built.tokenizer, encoded, positions, device)
    model = built.model
    return {**batch, "labels": encoded.targets(positions, model.answers.kind, model.classes).to(device)}


def _pass(model: DactForSequenceClassification, stage: Stage, batch: dict[str, Any]) -> None:
    model.config.halting = model.loss_settings = stage.loss
    freeze_for(model, stage)
    model(**batch).loss.backward()
    if batch["labels"].device.type == "cuda":
        torch.cuda.synchronize()


def _seconds(built: Built, stage: Stage, device: torch.device) -> float:
    """Mean seconds of a forward and backward pass over batches spread over the lengths, as buckets have them."""
    lengths, size = built.encoded["train"].lengths, stage.keys.batch_size
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    starts = [int((len(order) - min(size, len(order))) * share) for share in (0.5, 0.17, 0.5, 0.83)]
    spent = []
    for start in starts[: TIMED + 1]:
        batch = _batch(built, order[start : start + size], device)
        began = time.perf_counter()
        _pass(built.model, stage, batch)
        spent.append(time.perf_counter() - began)
    return sum(spent[1:]) / TIMED


def _memory(built: Built, stages: list[Stage], device: torch.device) -> float:
    """Peak MiB after a pass over the longest examples, weights and gradients included."""
    lengths = built.encoded["train"].lengths
    longest = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    for stage in stages:
        _pass(built.model, stage, _batch(built, longest[: stage.keys.batch_size], device))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024
