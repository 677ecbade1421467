"""What the commands compute, as frozen dataclasses of plain numbers. Imports nothing of ours, and no torch.

`to_json` of a result is the document of `--json`; its keys are relied on by other programs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

CLASSES_SHOWN, WORST_SHOWN = 12, 5  # classes in a table: up to so many are all shown, of more the worst
REFERENCES = {"majority": "majority class", "mean": "mean label", "last_layer": "last layer"}


@dataclass(frozen=True)
class ClassResult:
    """One class under one halting rule; what needs labels is None without them.

    Attributes:
        examples: Examples of the class.
        recall: Share of them that the rule answers with the class.
        full_recall: The same at full depth.
        harm: Share of them that full depth has right and the rule has wrong.
        disagreement: Share of them that the rule answers otherwise than full depth.
        layers_mean: Mean layers run.
    """

    examples: int
    recall: float | None
    full_recall: float | None
    harm: float | None
    disagreement: float
    layers_mean: float


def classes_shown(by_class: dict[str, ClassResult]) -> list[str]:
    """The classes that a table has room for: all of a few, of many the worst.

    The worst have most harm (without labels: most disagreement); among equals, the lowest recall.
    """
    if len(by_class) <= CLASSES_SHOWN:
        return list(by_class)

    def goodness(name: str) -> tuple[float, float]:
        found = by_class[name]
        return -(found.disagreement if found.harm is None else found.harm), found.recall or 0.0

    return sorted(by_class, key=goodness)[:WORST_SHOWN]


@dataclass(frozen=True)
class Reference:
    """A plain answer that stands beside the rules, so that their metric has a measure.

    Attributes:
        metric: The task's metric; None where it is undefined or there are no labels.
        metrics: All metrics by name.
        agreement_with_full: Share of examples that full depth answers alike.
        answer: The constant answer (a class name, or the mean label); None for the last layer.
    """

    metric: float | None
    metrics: dict[str, float | None]
    agreement_with_full: float
    answer: str | float | None = None


@dataclass(frozen=True)
class RuleResult:
    """What one halting rule makes of a split.

    Attributes:
        metric: The task's metric, None for unlabelled data and where it is undefined.
        metrics: All metrics by name, None where one is undefined; empty for unlabelled data.
        layers_mean: Mean layers run.
        layers_share: The same, divided by N.
        depths: How many examples stopped after layer 1..N.
        agreement_with_full: Share of examples answered as at full depth (for regression: within 1 % of the range).
        threshold: The rule's value.
        certificate: What is promised of it.
        by_class: Recall, harm and disagreement, by name of the class; empty for regression.
    """

    metric: float | None
    metrics: dict[str, float | None]
    layers_mean: float
    layers_share: float
    depths: list[int]
    agreement_with_full: float
    threshold: float | None = None
    certificate: dict[str, Any] | None = None
    by_class: dict[str, ClassResult] = field(default_factory=dict)

    @property
    def classes_shown(self) -> list[str]:
        """The classes that a table has room for."""
        return classes_shown(self.by_class)


@dataclass(frozen=True)
class EvalResult:
    """A run evaluated on a split by several rules.

    Attributes:
        metric: Name of the task's metric.
        layers: N.
        rules: By rule.
        depth_by_difficulty: Mean layers by difficulty, by rule.
        references: Plain answers to hold the rules against: `majority` (always the most frequent class; `mean`, always
            the mean label, for regression) and `last_layer` (y_N alone).
        full_depth: What full depth answers with: the `mixture` a_N of a DACT model, else the `last_layer`.
        by_class_of: What `by_class` groups by: the `label`, or the `full_depth` class where there are no labels.
        notices: What the reader of the figures should know, such as why a metric is undefined.
    """

    run: str
    split: str
    examples: int
    metric: str
    layers: int
    rules: dict[str, RuleResult]
    depth_by_difficulty: dict[str, dict[str, float | None]] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    full_depth: str = "mixture"
    by_class_of: str = "label"
    notices: list[str] = field(default_factory=list)

    @property
    def beside(self) -> dict[str, Reference]:
        """The references that say something that no rule says: not the last layer where it is what `full` answers."""
        known = self.full_depth == "last_layer" and "full" in self.rules
        return {name: found for name, found in self.references.items() if name != "last_layer" or not known}

    @property
    def telling_rule(self) -> str | None:
        """The rule that details are shown of: the certified one, else the last that stops early, else the last."""
        certified = [name for name, judged in self.rules.items() if judged.certificate is not None]
        early = [name for name, judged in self.rules.items() if judged.depths[-1] < self.examples]
        return next(reversed(certified or early or list(self.rules)), None)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact eval --json`."""
        document = asdict(self)
        if not self.depth_by_difficulty:
            del document["depth_by_difficulty"]
        return document


@dataclass(frozen=True)
class Calibration:
    """A threshold and what is promised of it; void when anything that can change an answer changes.

    Attributes:
        kind: `risk` or `budget`.
        rule: The rule with its threshold, as `--rule` takes it.
        threshold: The threshold; None when a sound rule stands in because none could be certified.
        certified: Whether the promise holds.
        rules_tried: The rules to choose from.
        examples: Size of the calibration sample.
        layers_mean: Mean layers on that sample.
        weights_sha256: SHA-256 of model.safetensors.
        config_sha256: SHA-256 of config.json in canonical form.
        tokenizer_sha256: SHA-256 of the tokenizer files in canonical form.
        dtype: Type that the encoder ran in.
        max_length: Most tokens per example.
        split: The split, or the file.
        data_fingerprint: Digest of its examples.
        distinct: Distinct inputs in the sample.
        screened: Splits of training that the sample was compared with.
        left_out: Examples left out because they stand in such a split, by split.
        loss: `disagreement` or `harm`, for `risk`.
        epsilon: The promised risk.
        delta: The probability with which the promise may fail, over all attempts on the sample.
        delta_spent: The part of delta that this attempt was tested at.
        attempt: The number of this attempt on the sample, from 1.
        by_class: Whether the promise holds for each class.
        small_classes: Classes that are too small to be in a promise by class.
        observed: Losses in the sample at this threshold.
        classes: What the threshold does to each class of the sample.
        budget: Mean layers wanted, for `budget`.
        published: Whether it goes with a published model, which leaves the calibration examples behind.
    """

    kind: Literal["risk", "budget"]
    rule: str
    threshold: float | None
    certified: bool
    rules_tried: list[str]
    examples: int
    layers_mean: float | None
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    dtype: str
    max_length: int
    split: str
    data_fingerprint: str
    distinct: int
    screened: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    loss: Literal["disagreement", "harm"] | None = None
    epsilon: float | None = None
    delta: float | None = None
    delta_spent: float | None = None
    attempt: int | None = None
    by_class: bool = False
    small_classes: list[str] = field(default_factory=list)
    observed: int | None = None
    classes: dict[str, ClassResult] = field(default_factory=dict)
    budget: float | None = None
    published: bool = False

    @property
    def terms(self) -> str:
        """The promise in a few words: `disagreement at most 1%, delta 0.05`."""
        each = " in every class" if self.by_class else ""
        return f"{self.loss} at most {100 * (self.epsilon or 0):g}%{each}, delta {self.delta:g}"

    @property
    def promise(self) -> str:
        """What may be relied on, in one sentence."""
        if self.kind == "budget":
            return (
                f"{self.rule} runs {self.layers_mean:.2f} layers on the mean of {self.examples:,} calibration examples "
                f"(budget {self.budget:g}); this is a convenience and promises nothing about the answers"
            )
        if not self.certified:
            return f"{self.failure}; {self.rule} is used instead, which never changes the class"
        harm = "answered wrongly where full depth is right"
        event = harm if self.loss == "harm" else "answered differently from full depth"
        return (
            f"{self.condition}with probability at least {1 - (self.delta or 0):g} over the draw of the calibration "
            f"sample, a fresh example{self._scope} is {event} with probability at most {self.epsilon:g}"
        )

    @property
    def failure(self) -> str:
        """Why nothing is certified."""
        return (
            f"no threshold of {', '.join(self.rules_tried)} can be certified for a risk of {self.epsilon:g} with "
            f"{self.examples:,} examples ({self.distinct:,} distinct inputs)"
        )

    @property
    def condition(self) -> str:
        """Under which condition the promise holds; empty where there is none."""
        if {"train", "validation"} <= set(self.screened):
            return ""
        return "provided that no calibration example was used in training, "

    @property
    def _scope(self) -> str:
        """Of which examples the promise speaks."""
        unseen = " whose input was not used in training" if self.left_out else ""
        if not self.by_class:
            return f" from the same distribution{unseen}"
        kind = "label" if self.loss == "harm" else "class at full depth"
        but = f" (but {', '.join(self.small_classes)}: too few examples)" if self.small_classes else ""
        return f" of every {kind}{but}, drawn from that class's distribution{unseen},"

    def to_json(self) -> dict[str, Any]:
        """The document of calibration.json."""
        return {**asdict(self), "promise": self.promise}


@dataclass(frozen=True)
class RunFacts:
    """One line of `dact runs`.

    Attributes:
        run: Its folder.
        task: The recipe's task.
        finished: Whether it came to its end.
        latest: Whether `latest` names it.
        metric_name: Name of the task's metric; None while unfinished, like all that follows but the last two.
        metric: On validation, by `rule`.
        rule: The rule that the run halts by.
        layers_mean: Mean layers by that rule.
        layers: N.
        majority: Metric of the majority class on validation; None where it is unknown.
        modified: Seconds since 1970 of its newest file.
        megabytes: Of all its files.
    """

    run: str
    task: str
    finished: bool
    latest: bool
    metric_name: str | None
    metric: float | None
    rule: str | None
    layers_mean: float | None
    layers: int | None
    modified: float
    megabytes: float
    majority: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `dact runs --json`."""
        return asdict(self)


@dataclass(frozen=True)
class PublishResult:
    """What `dact publish` wrote, and where it went.

    Attributes:
        run: What was published.
        folder: Where it was written to; None when it went to the hub only.
        hub: Its address on the hub; None without `--hub`.
        rule: What it halts by.
        promise: What the calibration promises of that rule; None where there is none.
        files: Names of the files.
    """

    run: str
    folder: str | None
    hub: str | None
    rule: str
    promise: str | None
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """The document of `dact publish --json`."""
        return asdict(self)


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds.

    Attributes:
        examples: How many.
        tokens_p50: Median tokens of an example, before cutting.
        tokens_p95: 95th percentile, before cutting.
        tokens_max: Longest, before cutting.
        cut: Examples longer than `data.max_length`.
        labels: Share of each class; empty for regression and where there are no labels.
        majority: Share of the most frequent class, which a constant answer gets right; None without classes.
    """

    examples: int
    tokens_p50: int
    tokens_p95: int
    tokens_max: int
    cut: int
    labels: dict[str, float]
    majority: float | None = None


@dataclass(frozen=True)
class PlanResult:
    """What a recipe comes to, before anything is trained.

    Attributes:
        splits: By name.
        encoder: Its family and width.
        layers: N.
        parameters: Of the whole model.
        stages: A sentence each.
        steps: Optimizer steps in all.
        seconds_per_step: Measured on batches of the data.
        seconds: Of training, without evaluations.
        memory_mib: Peak of the process, weights, gradients and optimizer included.
        disk_mib: Of the run while it is trained.
        device: Where it was measured.
        notices: What is allowed but worth telling.
    """

    splits: dict[str, SplitFacts]
    encoder: str
    layers: int
    parameters: int
    stages: list[str]
    steps: int
    seconds_per_step: float
    seconds: float
    memory_mib: float
    disk_mib: float
    device: str
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact validate --json`."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """The answer to one text, or the reason why there is none.

    Attributes:
        label: The predicted class as the data write it (its name, or its number where all names are whole numbers), or
            the predicted value of a regression. None without an answer.
        label_id: Index of the class; None for regression.
        probabilities: By class; empty for regression, None without an answer.
        exit_layer: How many layers it took; None without an answer.
        error: Why there is no answer; None where there is one.
    """

    label: str | int | float | None
    label_id: int | None
    probabilities: list[float] | None
    exit_layer: int | None
    error: str | None = None

    @classmethod
    def failed(cls, error: str) -> Prediction:
        """The row of a text that has no answer."""
        return cls(None, None, None, None, error)


@dataclass(frozen=True)
class ExitTrace:
    """One example, layer by layer; the lists have one entry per layer that ran.

    Attributes:
        text: The text.
        text_pair: Its second half, None without.
        tokens: How many tokens the encoder saw.
        label: Predicted class, or the predicted value.
        label_name: Its name, None for regression.
        probabilities: By class; empty for regression.
        rule: The rule that halted it.
        exit_layer: The last layer that ran.
        layers: N.
        layer_probabilities: y_n.
        halting: h_n.
        remaining: p_n.
        halting_weights: w_n of the answer.
        answers: a_n.
        scores: The rule's score after each layer; None where it has none (`full`).
        cut: The score from which on the rule halts.
        notices: What the user should know: empty text, truncation.
        promise: What a calibration promises of the rule; None where there is none.
        expected: The label that was given; None without.
        expected_name: Its name, None for regression.
        full_answer: What full depth says, probabilities or a value; None unless it was run.
    """

    text: str
    text_pair: str | None
    tokens: int
    label: int | float
    label_name: str | None
    probabilities: list[float]
    rule: str
    exit_layer: int
    layers: int
    layer_probabilities: list[list[float]]
    halting: list[float]
    remaining: list[float]
    halting_weights: list[float]
    answers: list[list[float]]
    scores: list[float | None]
    cut: float
    notices: list[str] = field(default_factory=list)
    promise: str | None = None
    expected: int | float | None = None
    expected_name: str | None = None
    full_answer: list[float] | None = None

    @property
    def margin(self) -> float:
        """Largest probability less the second; 0 for regression."""
        top = sorted(self.probabilities, reverse=True)
        return top[0] - top[1] if len(top) > 1 else 0.0

    @property
    def loss(self) -> float | None:
        """Negative log-likelihood of the given label, or the squared error; None without a label."""
        if self.expected is None:
            return None
        if not self.probabilities:
            return (float(self.label) - float(self.expected)) ** 2
        return -math.log(max(self.probabilities[int(self.expected)], 1e-38))

    @property
    def settled(self) -> int:
        """The layer from which on the answer's class stayed what it is at the halt; for regression the halt."""
        if not self.probabilities:
            return self.exit_layer
        classes = [max(range(len(answer)), key=answer.__getitem__) for answer in self.answers]
        other = [layer for layer, found in enumerate(classes, start=1) if found != self.label]
        return min(max(other, default=0) + 1, self.exit_layer)

    @property
    def full_label(self) -> int | None:
        """Full depth's class; None for regression, or unless it was run."""
        if not self.full_answer or not self.probabilities:
            return None
        return max(range(len(self.full_answer)), key=self.full_answer.__getitem__)

    def to_json(self) -> dict[str, Any]:
        """One entry of `dact inspect --json`."""
        return {**asdict(self), "settled": self.settled}


@dataclass(frozen=True)
class Measurement:
    """Times of one way to run a batch.

    Attributes:
        latency_ms_p50: Median milliseconds per batch; p90 and p99 likewise.
        examples_per_second: From the median round.
        latency_ms_spread: Interquartile range over median of the repeated measurements.
        flops_per_example: Floating point operations, each example at its own length; None where not counted.
        peak_memory_mib: Weights and the most that was allocated beside them; None where not measured.
        layers_mean: Mean layers run; None for the stock encoder.
        depths: How many examples stopped after layer 1..N.
        samples_ms: Every measurement.
    """

    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    examples_per_second: float
    latency_ms_spread: float
    flops_per_example: float | None = None
    peak_memory_mib: float | None = None
    layers_mean: float | None = None
    depths: list[int] | None = None
    samples_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Breakdown:
    """Where adaptive inference spends its time, in milliseconds over one round.

    Attributes:
        layers_ms: In encoder layer 1..N.
        embeddings_ms: Before the first layer.
        units_ms: In the units.
        rule_ms: In the rule, waiting for the device included.
        regrouping_ms: In dropping the rows that left.
        other_ms: In everything else.
    """

    layers_ms: list[float]
    embeddings_ms: float
    units_ms: float
    rule_ms: float
    regrouping_ms: float
    other_ms: float


@dataclass(frozen=True)
class Interval:
    """A median with the bounds of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """A rule at one threshold: the run (or runs) it belongs to, and what it came to on the split that is drawn."""

    run: str
    threshold: float | None
    layers_mean: float
    metric: float


@dataclass(frozen=True)
class AreaDifference:
    """Area of one rule less that of another, over the layers that both can run, with a paired 95 % interval.

    Attributes:
        median: The difference on the data.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        layers_from: Mean layers from which on both rules run; the areas are taken from there to N.
    """

    median: float
    low: float
    high: float
    layers_from: float


@dataclass(frozen=True)
class ComparedRule:
    """A rule over its whole range of thresholds.

    Attributes:
        area: Normalised area under its curve of metric / reference against layers / N; None for a rule that cannot
            stop everything at layer 1, whose curve begins deeper.
        layers_from: Mean layers of its first point; it never runs fewer.
        metric_at: Metric with at most 0.25, 0.5 and 0.75 of the layers; None where the rule runs more than that.
        layers_for_99: Mean layers at which 99 % of the reference is kept; None when it never is.
        points: The curve, by ascending layers.
        curves: Its curve in every bootstrap sample (`dactcli.evaluation.curves.Curves`); not in the JSON.
    """

    area: Interval | None
    layers_from: float
    metric_at: dict[str, float | None]
    layers_for_99: float | None
    points: list[CurvePoint]
    curves: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """All rules on all runs.

    Attributes:
        reference_kind: `plain fine-tuning` where such a run is given, else `full depth`.
        reference_runs: The runs whose metric is the reference.
        rules: By descending area; those without one come last.
        majority_metric: Metric of the constant answer of the most frequent class.
        last_layer_metric: Metric of the last layer alone, in the reference runs.
        notices: What the reader of the figures should know.
    """

    split: str
    examples: int
    metric: str
    layers: int
    runs: list[str]
    reference_kind: str
    reference_runs: list[str]
    reference_metric: float
    rules: dict[str, ComparedRule]
    majority_metric: float | None = None
    last_layer_metric: float | None = None
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact eval --compare --json`, with the difference of each area to the first rule's."""
        plain = {name: replace(rule, curves=None) for name, rule in self.rules.items()}
        document = asdict(replace(self, rules=plain))
        best = next(iter(self.rules))
        for name, rule in document["rules"].items():
            rule["area_difference_to_best"] = asdict(self.difference(name, best))
            del rule["curves"]
        return document

    def difference(self, name: str, other: str) -> AreaDifference:
        """Area of one rule less that of another over the layers that both can run."""
        found: AreaDifference = self.rules[name].curves.less(self.rules[other].curves)
        return found


@dataclass(frozen=True)
class ProfileCase:
    """Stock encoder, full depth and adaptive inference on the same batches, measured in turn.

    Attributes:
        batch_size: Examples per batch; the largest for whole data sets.
        sequence_length: Tokens per example where it was fixed, None for real lengths.
        rule: What adaptive inference halted by.
        stock: transformers' own classifier.
        full: Every layer and every unit.
        adaptive: Each example as deep as the rule asks.
        time_ratio_to_stock: Adaptive time over stock time.
        full_ratio_to_stock: Full-depth time over stock time.
        ideal_ms: Median stock time times the share of its layers' operations that ran.
        realised_share: Ideal time over adaptive time.
        breakdown: Where the adaptive time went; None for whole data sets.
        metric: The task's metric at that rule, None without labels.
        metric_name: Its name.
        baseline: Against an earlier profile: the ratio to stock now over then, and milliseconds now over then.
    """

    batch_size: int
    sequence_length: int | None
    rule: str
    stock: Measurement
    full: Measurement
    adaptive: Measurement
    time_ratio_to_stock: Interval
    full_ratio_to_stock: Interval
    ideal_ms: float
    realised_share: Interval
    breakdown: Breakdown | None = None
    metric: float | None = None
    metric_name: str | None = None
    baseline: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainingCase:
    """One training step, against the plain classifier's, measured in turn.

    Attributes:
        batch_size: Examples per batch.
        sequence_length: Tokens per example where it was fixed.
        plain: transformers' own classifier, a loss on its one answer.
        dact: All layers' answers, halting weights and the whole loss.
        time_ratio_to_plain: Time of the second over that of the first.
        phases_ms: Median milliseconds by way and phase: forward with losses, backward, optimizer.
    """

    batch_size: int
    sequence_length: int | None
    plain: Measurement
    dact: Measurement
    time_ratio_to_plain: Interval
    phases_ms: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ProfileResult:
    """A profile, and where it was measured.

    Attributes:
        environment: Device, threads, type, versions.
        cases: Latency per batch, for each batch size.
        throughput: All measured examples at once, batches by tokens, survivors pooled.
        training: The training step, when asked for.
        notices: What the user should know.
        trace: The trace file that was written.
        examples: How many were measured.
        available: How many the split or file holds; None for random examples.
    """

    environment: dict[str, Any]
    cases: list[ProfileCase]
    throughput: list[ProfileCase] = field(default_factory=list)
    training: list[TrainingCase] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    trace: str | None = None
    examples: int | None = None
    available: int | None = None

    def to_json(self, *, raw: bool = False) -> dict[str, Any]:
        """The document of `dact profile --json`; single measurements only when `raw`."""
        document = asdict(self)
        for case in [*document["cases"], *document["throughput"], *document["training"]]:
            for way in case.values():
                if isinstance(way, dict) and not raw:
                    way.pop("samples_ms", None)
        return document


@dataclass(frozen=True)
class StepLog:
    """What a training says of itself every few steps.

    Attributes:
        loss: Mean since the last log.
        learning_rate: Of the encoder.
        grad_norm: Before clipping.
        epoch: Epochs done in this stage.
        examples_per_second: Since the last log, without evaluations.
        layers_mean: Mean layers of the last batches under the sound rule; None without the DACT loss.
        halting_weights: Mean w_n over the last batches [N]; None without the DACT loss.
    """

    loss: float
    learning_rate: float
    grad_norm: float
    epoch: float
    examples_per_second: float
    layers_mean: float | None = None
    halting_weights: list[float] | None = None


@dataclass(frozen=True)
class TrainResult:
    """How a fine-tuning ended.

    Attributes:
        run: The run folder.
        steps: Optimizer steps over all stages.
        seconds: Wall time of training, without the final evaluation.
        evaluation: The final evaluation, by split.
        resumed: Whether it went on from a checkpoint.
        halting_fitted: Whether halting thresholds were fitted on validation after the last epoch.
    """

    run: str
    steps: int
    seconds: float
    evaluation: dict[str, EvalResult]
    resumed: bool = False
    halting_fitted: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of `dact finetune --json`."""
        return {
            "run": self.run,
            "steps": self.steps,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "halting_fitted": self.halting_fitted,
            "evaluation": {split: result.to_json() for split, result in self.evaluation.items()},
        }
