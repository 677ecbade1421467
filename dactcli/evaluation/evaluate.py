"""Evaluate a model on a split under several halting rules, from one pass through all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dactcli.errors import DataError
from dactcli.evaluation.kinds import answer_metrics, measures_of
from dactcli.evaluation.measures import (
    Truth,
    agreement,
    one_layer_alone,
    unique_names,
)
from dactcli.evaluation.metrics import correlation, undefined_notes
from dactcli.halting.base import Rule
from dactcli.halting.decision import Decision
from dactcli.halting.rules import Full
from dactcli.recipe.tasks import metric_of
from dactcli.results import Calibration, EvalResult, Reference, RuleResult
from dactcli.runs.outputs import LayerOutputs, collect

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.data.batches import Encoded
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.recipe.schema import Recipe


@dataclass(frozen=True)
class EvalSplit:
    """A split that rules are evaluated on.

    Attributes:
        metric: Name of the task's metric.
        run: Name of the run, for the result.
        name: Name of the split, for the result.
        difficulty: A known difficulty of each example [E], whose correlation with depth is reported; None if unknown.
    """

    metric: str
    run: str = ""
    name: str = ""
    difficulty: Sequence[int] | None = None


def evaluate(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    rules: Sequence[str],
    split: EvalSplit,
    *,
    batch_size: int,
) -> EvalResult:
    """Run all layers on a split once and evaluate every rule on their outputs.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        encoded: The examples; without labels there are no metrics, only depths and agreement.
        rules: Rules as `NAME` or `NAME:VALUE`.
        split: The metric, and names for the result.
        batch_size: Examples per batch.

    Raises:
        UsageError: The model cannot serve a rule.
        DataError: There is no example.
    """
    chosen = [model.rule(rule) for rule in rules]
    if not encoded.lengths:
        raise DataError("the split has no examples", place=split.name or None, remedy="give at least one")
    outputs = collect(model, tokenizer, encoded, batch_size=batch_size)
    return judge(outputs, chosen, encoded.labels, split)


def judge(
    outputs: LayerOutputs,
    rules: Sequence[Rule],
    labels: Sequence[Any] | None,
    split: EvalSplit,
    *,
    calibration: Calibration | None = None,
) -> EvalResult:
    """Evaluate every rule on the outputs of all layers.

    Args:
        outputs: The outputs.
        rules: The rules.
        labels: Classes or values [E]; None when unlabelled.
        split: The metric, and names for the result.
        calibration: A valid calibration; the result shows it with its rule.

    Returns:
        The result, by rule.
    """
    names = unique_names(outputs.names, outputs.classes) if outputs.answers.decides else None
    truth = Truth(labels, split.metric, names, outputs.answers)
    full = outputs.decide(Full())
    decisions = {str(rule): full if isinstance(rule, Full) else outputs.decide(rule) for rule in rules}
    judged = {str(rule): _judged(rule, decisions[str(rule)], full.answer, truth, outputs.layers) for rule in rules}
    if calibration is not None and calibration.rule in judged:
        shown = replace(judged[calibration.rule], certificate=calibration.to_json())
        judged[calibration.rule] = shown
    by_difficulty = {
        name: _by_difficulty(decision, split.difficulty)
        for name, decision in decisions.items()
        if split.difficulty is not None and decision is not full
    }
    return EvalResult(
        run=split.run,
        split=split.name,
        examples=len(outputs.y),
        metric=split.metric,
        layers=outputs.layers,
        rules=judged,
        depth_by_difficulty=by_difficulty,
        references=_references(outputs, full.answer, truth),
        full_depth="mixture" if outputs.mixes else "last_layer",
        decision=outputs.answers.noun,
        by_class_of="full_depth" if labels is None else "label",
        notices=[
            *_notices(outputs, full.answer, truth),
            *undefined_notes({name: one.metrics for name, one in judged.items()}),
        ],
    )


def _judged(rule: Rule, decision: Decision, full: Tensor, truth: Truth, layers: int) -> RuleResult:
    """The figures of one rule."""
    metrics = answer_metrics(decision.answer, truth.labels, truth.answers)
    mean = float(decision.exit_layer.double().mean())
    return RuleResult(
        metric=metrics.get(truth.metric),
        metrics=metrics,
        layers_mean=mean,
        layers_share=mean / layers,
        depths=decision.exit_layer.bincount(minlength=layers + 1)[1:].tolist(),
        agreement_with_full=agreement(decision.answer, full, truth.answers),
        threshold=rule.threshold,
        by_class=measures_of(truth.answers).by_class(decision, full, truth),
    )


def _references(outputs: LayerOutputs, full: Tensor, truth: Truth) -> dict[str, Reference]:
    """The figures of the last layer alone and, with labels, of the best constant answer."""
    last = outputs.y[:, -1]
    metrics = answer_metrics(last, truth.labels, truth.answers)
    found = {"last_layer": Reference(metrics.get(truth.metric), {**metrics}, agreement(last, full, truth.answers))}
    if truth.labels is None:
        return found
    return {**measures_of(truth.answers).constants(full, truth, truth.labels), **found}


def _notices(outputs: LayerOutputs, full: Tensor, truth: Truth) -> list[str]:
    """Sentences about figures that would mislead."""
    found = [
        measures_of(truth.answers).not_above_constant(full, truth) if truth.labels is not None else None,
        one_layer_alone(outputs, full),
    ]
    return [notice for notice in found if notice is not None]


def _by_difficulty(decision: Decision, difficulty: Sequence[int]) -> dict[str, float | None]:
    """Mean exit layer for each difficulty, and Spearman's correlation of the two; None where either is constant."""
    depths = decision.exit_layer.tolist()
    groups: dict[int, list[int]] = {}
    for depth, level in zip(depths, difficulty, strict=True):
        groups.setdefault(level, []).append(depth)
    table: dict[str, float | None] = {str(level): sum(group) / len(group) for level, group in sorted(groups.items())}
    table["spearman"] = correlation(depths, difficulty, ranks=True)
    return table


def validator(recipe: Recipe) -> Callable[..., EvalResult]:
    """The evaluation of the validation split that training calls after each epoch.

    Args:
        recipe: A complete recipe.
    """

    def validate(
        model: DactForSequenceClassification,
        tokenizer: Tokenizer,
        encoded: Encoded,
        rules: Sequence[str],
        difficulty: Sequence[int] | None,
    ) -> EvalResult:
        split = EvalSplit(
            metric=metric_of(recipe, model.answers.kind),
            run=recipe.output.name or recipe.task.name,
            name="validation",
            difficulty=difficulty,
        )
        return evaluate(model, tokenizer, encoded, rules, split, batch_size=recipe.evaluation.batch_size)

    return validate
