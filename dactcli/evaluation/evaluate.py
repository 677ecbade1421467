"""Judge a model on a split by several halting rules at once, from one pass through all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from dactcli.errors import DataError
from dactcli.evaluation.measures import (
    Task,
    agreement,
    by_class,
    class_names,
    constant_answer,
    not_above_constant,
    one_layer_alone,
)
from dactcli.evaluation.metrics import classification_metrics, correlation, regression_metrics, undefined_notes
from dactcli.halting.decision import Decision
from dactcli.halting.rules import Full, Rule
from dactcli.results import Calibration, EvalResult, Reference, RuleResult
from dactcli.runs.outputs import LayerOutputs, collect

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.data.batches import Encoded
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.recipe.schema import Recipe


def evaluate(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    rules: Sequence[str],
    *,
    metric: str,
    batch_size: int,
    run: str = "",
    split: str = "",
    difficulty: Sequence[int] | None = None,
) -> EvalResult:
    """Run all layers on a split once and judge every rule on what they said.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        encoded: The examples; without labels there are no metrics, only depths and agreement.
        rules: Rules as `--rule` takes them.
        metric: Name of the task's metric.
        batch_size: Examples per batch.
        run: Name of the run, for the result.
        split: Name of the split, for the result.
        difficulty: A known difficulty of each example.

    Raises:
        UsageError: The model cannot serve a rule.
        DataError: There is no example.
    """
    chosen = [model.rule(rule) for rule in rules]
    if not encoded.lengths:
        raise DataError("the split has no examples", place=split or None, remedy="give at least one")
    outputs = collect(model, tokenizer, encoded, batch_size=batch_size)
    return judge(
        outputs,
        chosen,
        labels=encoded.labels,
        metric=metric,
        mixes=model.mixes,
        answer_range=model.answer_range,
        names=label_names(model),
        run=run,
        split=split,
        difficulty=difficulty,
    )


def label_names(model: DactForSequenceClassification) -> list[str] | None:
    """The names of a model's classes; None for regression."""
    if model.answer_range is not None:
        return None
    return [str(model.config.id2label[index]) for index in range(model.config.num_labels)]


def judge(
    outputs: LayerOutputs,
    rules: Sequence[Rule],
    *,
    labels: Sequence[Any] | None,
    metric: str,
    mixes: bool,
    answer_range: tuple[float, float] | None = None,
    names: Sequence[str] | None = None,
    run: str = "",
    split: str = "",
    difficulty: Sequence[int] | None = None,
    calibration: Calibration | None = None,
) -> EvalResult:
    """What each rule makes of the layers' outputs.

    Args:
        outputs: y_n [E, N, C] and h_n [E, N].
        rules: The rules to judge.
        labels: Classes or values [E]; None when unlabelled.
        metric: Name of the task's metric.
        mixes: Whether the model's answers accumulate (DACT) or each layer stands alone.
        answer_range: Lowest and highest answer of a regression.
        names: Names of the classes; their numbers when None.
        run: Name of the run, for the result.
        split: Name of the split, for the result.
        difficulty: A known difficulty of each example, whose correlation with depth is reported.
        calibration: A valid calibration; it is shown with its rule.

    Returns:
        The result, by rule.
    """
    examples, layers, classes = outputs.y.shape
    named = None if answer_range is not None else class_names(names, classes)
    task = Task(labels, metric, named, answer_range)
    full = outputs.decide(Full(), mixes=mixes)
    judged, by_difficulty = {}, {}
    calibrated = None if calibration is None else calibration.rule
    for rule in rules:
        decision = full if isinstance(rule, Full) else outputs.decide(rule, mixes=mixes)
        metrics = answer_metrics(decision.answer, labels, answer_range)
        depths = decision.exit_layer.bincount(minlength=layers + 1)[1:].tolist()
        mean = float(decision.exit_layer.double().mean())
        judged[str(rule)] = RuleResult(
            metric=metrics.get(metric),
            metrics=metrics,
            layers_mean=mean,
            layers_share=mean / layers,
            depths=depths,
            agreement_with_full=agreement(decision.answer, full.answer, answer_range),
            threshold=rule.threshold,
            certificate=calibration.to_json() if calibration is not None and str(rule) == calibrated else None,
            by_class={} if named is None else by_class(decision, full.answer, labels, named),
        )
        if difficulty is not None and not isinstance(rule, Full):
            by_difficulty[str(rule)] = _by_difficulty(decision, difficulty)
    return EvalResult(
        run=run,
        split=split,
        examples=examples,
        metric=metric,
        layers=layers,
        rules=judged,
        depth_by_difficulty=by_difficulty,
        references=_references(outputs, full.answer, task),
        full_depth="mixture" if mixes else "last_layer",
        by_class_of="full_depth" if labels is None else "label",
        notices=[
            *_notices(outputs, full.answer, task, mixes=mixes),
            *undefined_notes({name: one.metrics for name, one in judged.items()}),
        ],
    )


def _references(outputs: LayerOutputs, full: Tensor, task: Task) -> dict[str, Reference]:
    """The constant answer, where there are labels, and the last layer's own."""
    last = outputs.y[:, -1]
    metrics = answer_metrics(last, task.labels, task.answer_range)
    found = {"last_layer": Reference(metrics.get(task.metric), {**metrics}, agreement(last, full, task.answer_range))}
    if task.labels is None:
        return found
    constant = constant_answer(task.labels, task.classes)
    if task.names is None:
        answer = torch.full_like(full, constant)
        # a constant has no correlation with anything
        error = answer_metrics(answer, task.labels, task.answer_range)["mean_squared_error"]
        correlations = dict.fromkeys(metrics) | {"mean_squared_error": error}
        same = agreement(answer, full, task.answer_range)
        return {"mean": Reference(correlations.get(task.metric), correlations, same, constant), **found}
    chosen = int(constant)
    metrics = classification_metrics([chosen] * len(full), task.labels, classes=len(task.names))
    same = float((full.argmax(-1) == chosen).double().mean())
    return {"majority": Reference(metrics.get(task.metric), {**metrics}, same, task.names[chosen]), **found}


def _notices(outputs: LayerOutputs, full: Tensor, task: Task, *, mixes: bool) -> list[str]:
    """Sentences where the figures would mislead."""
    found = [
        not_above_constant(full, task) if task.labels is not None else None,
        one_layer_alone(outputs, full, task.answer_range) if mixes else None,
    ]
    return [notice for notice in found if notice is not None]


def answer_metrics(
    answer: Tensor, labels: Sequence[Any] | None, answer_range: tuple[float, float] | None
) -> dict[str, float | None]:
    """All metrics of the answers, by name; None where one is undefined.

    Args:
        answer: Probabilities [E, C], or values [E, 1].
        labels: Classes or values; None gives no metric.
        answer_range: Lowest and highest answer of a regression, None for classes.
    """
    if labels is None:
        return {}
    if answer_range is not None:
        return regression_metrics(answer[:, 0].tolist(), labels)
    return classification_metrics(answer.argmax(-1).tolist(), labels, classes=answer.shape[-1])


def _by_difficulty(decision: Decision, difficulty: Sequence[int]) -> dict[str, float | None]:
    """Mean exit layer for each difficulty, and Spearman's correlation of the two; None where either is constant."""
    depths = decision.exit_layer.tolist()
    groups: dict[int, list[int]] = {}
    for depth, level in zip(depths, difficulty, strict=True):
        groups.setdefault(level, []).append(depth)
    table: dict[str, float | None] = {str(level): sum(group) / len(group) for level, group in sorted(groups.items())}
    table["spearman"] = correlation(depths, difficulty, ranks=True)
    return table


def standard_rules(model: DactForSequenceClassification) -> list[str]:
    """The rules that a model without a recipe is judged by: full depth, and the sound ones that it can serve."""
    if model.sound_rule == "exact":
        return ["full", "paper", "exact"]
    return ["full"] if model.sound_rule == "full" else ["full", model.sound_rule]


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
        return evaluate(
            model,
            tokenizer,
            encoded,
            rules,
            metric=recipe.task.metric or "accuracy",
            batch_size=recipe.evaluation.batch_size,
            run=recipe.output.name or recipe.task.name,
            split="validation",
            difficulty=difficulty,
        )

    return validate
