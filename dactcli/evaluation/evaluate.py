"""Judge a model on a split by several halting rules at once, from one pass through all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dactcli.errors import DataError
from dactcli.evaluation.metrics import classification_metrics, correlation, regression_metrics, undefined_notes
from dactcli.evaluation.outputs import LayerOutputs, collect
from dactcli.model.decide import Decision
from dactcli.model.rules import Full, Rule
from dactcli.results import Calibration, EvalResult, RuleResult

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
        run=run,
        split=split,
        difficulty=difficulty,
    )


def judge(
    outputs: LayerOutputs,
    rules: Sequence[Rule],
    *,
    labels: Sequence[Any] | None,
    metric: str,
    mixes: bool,
    answer_range: tuple[float, float] | None = None,
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
        run: Name of the run, for the result.
        split: Name of the split, for the result.
        difficulty: A known difficulty of each example, whose correlation with depth is reported.
        calibration: A valid calibration; it is shown with its rule.

    Returns:
        The result, by rule.
    """
    examples, layers, _ = outputs.y.shape
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
            agreement_with_full=_agreement(decision.answer, full.answer, answer_range),
            threshold=rule.threshold,
            certificate=calibration.to_json() if calibration is not None and str(rule) == calibrated else None,
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
        notices=undefined_notes({name: one.metrics for name, one in judged.items()}),
    )


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


def _agreement(answer: Tensor, full: Tensor, answer_range: tuple[float, float] | None) -> float:
    if answer_range is not None:
        low, high = answer_range
        same = (answer - full).abs()[:, 0] <= 0.01 * (high - low)
    else:
        same = answer.argmax(-1) == full.argmax(-1)
    return float(same.double().mean())


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
