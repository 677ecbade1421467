"""What is known of a run and belongs on its card: facts that are kept with it, none that must be guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from dactcli.results import Calibration, Comparison, EvalResult

if TYPE_CHECKING:
    from dactcli.recipe.schema import LongTexts, Recipe
    from dactcli.runs.load import Run


@dataclass(frozen=True)
class CardFacts:
    """What a card tells; None and empty where the run does not know it.

    Attributes:
        name: Of the model: the hub's, or its folder's.
        on_hub: Whether `name` is one of the hub.
        dact_version: Of the package that writes the card.
        family: Of the encoder, as transformers calls it.
        layers: N.
        hidden_size: Width of the encoder.
        parameters: Of the whole model.
        max_length: Most tokens of a text.
        long_texts: What is read of longer ones: `cut`, `head+tail` or `window`.
        objective: What it was trained for: `dact`, `layers` or `last`.
        rule: What it halts by.
        labels: Class names; empty for a regression.
        answer_range: Lowest and highest answer of a regression.
        kind: What an answer is: `classes`, `multilabel` or `regression`.
        noun: What it decides on: `class`, `label set` or `value`.
        label_thresholds: The probability from which on a label is there, one for all or one each; empty for others.
        task: Its name.
        metric: Of the task.
        source: `builtin`, `hub` or `files`.
        dataset: Hub name of the data.
        dataset_config: Configuration of the data there.
        pairs: Whether texts come in pairs.
        base_model: Hub name of the encoder.
        made_from: What is known of a fine-tuned classifier that the model keeps; None without one.
        tau: Price of a layer in the loss.
        fitted_on_validation: Whether the halting thresholds were learned on the validation split.
        seed: Of the training.
        evaluations: What the rules made of a split, by split.
        comparison: The rules over their whole range of thresholds.
        calibration: A valid calibration.
        versions: Of what it was trained with, by package.
    """

    name: str
    on_hub: bool
    dact_version: str
    family: str
    layers: int
    hidden_size: int
    parameters: int
    max_length: int
    long_texts: LongTexts
    objective: str
    rule: str
    labels: list[str]
    answer_range: tuple[float, float] | None = None
    kind: str = "classes"
    noun: str = "class"
    label_thresholds: Sequence[float] = ()
    task: str | None = None
    metric: str | None = None
    source: str | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    pairs: bool = False
    base_model: str | None = None
    made_from: str | None = None
    tau: float | None = None
    fitted_on_validation: bool = False
    seed: int | None = None
    evaluations: dict[str, EvalResult] = field(default_factory=dict)
    comparison: Comparison | None = None
    calibration: Calibration | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedModel:
    """The model under its public name.

    Attributes:
        name: Name of the published model.
        on_hub: Whether `name` is a name on the Hugging Face hub.
        rule: Halting rule of the published model.
        calibration: Its valid calibration; None if it has none.
    """

    name: str
    on_hub: bool
    rule: str
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Figures:
    """The measurements that the card shows.

    Attributes:
        summary: The run's summary.json; empty where there is none.
        judged: New evaluations, by split; they replace those of the summary.
        comparison: The rules over their whole range of thresholds.
    """

    summary: dict[str, Any] = field(default_factory=dict)
    judged: Sequence[EvalResult] = ()
    comparison: Comparison | None = None


def gather(run: Run, published: PublishedModel, figures: Figures) -> CardFacts:
    """The facts of a run.

    Args:
        run: The run.
        published: The model under its public name.
        figures: The measurements.
    """
    from importlib.metadata import version

    from dactcli.halting.label_sets import LabelSets

    config, summary = run.model.config, figures.summary
    kept: dict[str, EvalResult] = _kept(dict[str, EvalResult], summary.get("evaluation", {}))
    evaluations = kept | {result.split: result for result in figures.judged}
    return CardFacts(
        name=published.name,
        on_hub=published.on_hub,
        dact_version=version("dactcli"),
        family=config.encoder_config.model_type,
        layers=run.model.exit_heads.layers,
        hidden_size=config.encoder_config.hidden_size,
        parameters=run.model.num_parameters(),
        max_length=run.tokenizer.model_max_length,
        long_texts=config.long_texts,
        objective=config.objective,
        rule=published.rule,
        labels=[] if run.model.regression else [str(config.id2label[index]) for index in range(config.num_labels)],
        answer_range=run.model.answer_range,
        kind=run.model.answers.kind,
        noun=run.model.answers.noun,
        label_thresholds=run.model.answers.thresholds if isinstance(run.model.answers, LabelSets) else (),
        evaluations=evaluations,
        comparison=figures.comparison,
        calibration=published.calibration,
        versions=_kept(dict[str, str], summary.get("versions", {})),
        **_recipe_facts(run),
    )


def _recipe_facts(run: Run) -> dict[str, Any]:
    """What only the recipe knows."""
    recipe = run.recipe
    if recipe is None:
        return {}
    data, encoder = recipe.data, recipe.model.encoder
    dataset = data.name if data.source == "hub" and data.name and is_hub_name(data.name) else None
    return {
        "task": recipe.task.name,
        "metric": recipe.task.metric,
        "source": data.source,
        "dataset": dataset,
        "dataset_config": data.config if dataset else None,
        "pairs": data.text_pair is not None,
        "base_model": encoder if isinstance(encoder, str) and is_hub_name(encoder) else None,
        "tau": run.model.config.halting.tau if run.model.mixes else None,
        "made_from": _made_from(recipe) if recipe.model.keep_classifier else None,
        "fitted_on_validation": recipe.fits_halting or recipe.model.agreement,
        "seed": recipe.training.seed,
    }


def _made_from(recipe: Recipe) -> str:
    """What became of the classifier that was fine-tuned before."""
    taught = "the classifier's own answers to texts without labels" if recipe.data.label is None else "labels"
    return f"a fine-tuned classifier; full depth gives its answers unchanged, and the exit heads learned {taught}"


def is_hub_name(text: str) -> bool:
    """Whether a text can be a name on the hub, rather than a path of this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


def _kept(kind: Any, value: Any) -> Any:
    """A part of a summary, an empty mapping where something else wrote it."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return {}
