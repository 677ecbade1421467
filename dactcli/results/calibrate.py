"""Result of `dact eval --calibrate`: a threshold and its certificate."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from dactcli.results.evaluate import ClassResult


@dataclass(frozen=True)
class Calibration:
    """A threshold and its certificate. It becomes void when anything that can change an answer changes.

    Attributes:
        kind: `risk` or `budget`.
        rule: The rule with its threshold, as `--rule` takes it.
        threshold: The threshold; None for a sound rule, chosen if no threshold could be certified or the certified one
            costs no less.
        certified: Whether the promise holds.
        rules_tried: The candidate rules.
        examples: Size of the calibration sample.
        layers_mean: Mean layers on that sample.
        weights_sha256: SHA-256 of model.safetensors.
        config_sha256: SHA-256 of config.json in canonical form.
        tokenizer_sha256: SHA-256 of the tokenizer files in canonical form.
        dtype: Float type of the encoder's computation.
        max_length: Maximum tokens per example.
        split: Name of the split or file.
        data_fingerprint: Digest of its examples.
        distinct: Distinct inputs in the sample.
        screened: Training splits that the sample was compared with.
        left_out: Number of examples left out because they also appear in a training split, by split.
        loss: `disagreement` or `harm`, for `risk`.
        epsilon: The promised risk.
        delta: Probability that the promise fails, over all attempts on the sample.
        delta_spent: The part of delta that this attempt used.
        attempt: The number of this attempt on the sample, from 1.
        by_class: Whether the promise holds for each class.
        small_classes: Classes with too few examples for a promise by class.
        observed: Losses in the sample at this threshold.
        classes: Results for each class or label of the sample at this threshold.
        budget: Target for the mean number of layers, for `budget`.
        published: Whether it belongs to a published model, which does not include the calibration examples.
        layers: N; None in a calibration from an earlier version.
        decision: What an answer decides on: `class` or `label set`.
        outdone: The certified rule that the sound rule replaces because it runs no more layers.
        outdone_layers_mean: Mean layers of that rule on the sample.
        against: Whose answers the promise is about: those of full depth, for an export those of the model that was
            exported.
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
    layers: int | None = None
    outdone: str | None = None
    outdone_layers_mean: float | None = None
    decision: str = "class"
    against: str = "full depth"

    @property
    def terms(self) -> str:
        """The promise in short: `disagreement at most 1%, delta 0.05`."""
        each = " in every class" if self.by_class else ""
        return f"{self.loss} at most {100 * (self.epsilon or 0):g}%{each}, delta {self.delta:g}"

    @property
    def promise(self) -> str:
        """The promise in one sentence."""
        if self.kind == "budget":
            return (
                f"{self.rule} runs {self.layers_mean:.2f} layers on the mean of {self.examples:,} calibration examples "
                f"(budget {self.budget:g}); this is a convenience and promises nothing about the answers"
            )
        if self.outdone is not None:
            return (
                f"{self.rule} never changes the {self.decision} and runs {self.layers_mean:.2f} layers on the mean "
                f"of the calibration sample; {self.outdone}, which can be certified ({self.terms}), runs "
                f"{self.outdone_layers_mean:.2f}, so {self.rule} promises more and costs no more"
            )
        if not self.certified:
            return f"{self.failure}; {self.rule} is used instead, which never changes the {self.decision}"
        harm = f"answered wrongly where {self.against} is right"
        event = harm if self.loss == "harm" else f"answered differently from {self.against}"
        return (
            f"{self.condition}with probability at least {self._confidence} over the draw of the calibration "
            f"sample, a fresh example{self._scope} is {event} with probability at most {self.epsilon:g}"
        )

    @property
    def failure(self) -> str:
        """The reason why nothing is certified."""
        return (
            f"no threshold of {', '.join(self.rules_tried)} can be certified for a risk of {self.epsilon:g} with "
            f"{self.examples:,} examples ({self.distinct:,} distinct inputs)"
        )

    @property
    def _confidence(self) -> str:
        """1 - delta as text, never rounded to 1."""
        delta = self.delta or 0
        return f"{1 - delta:g}" if delta >= 1e-5 else f"1 - {delta:g}"

    @property
    def condition(self) -> str:
        """The condition under which the promise holds; empty if there is none."""
        if {"train", "validation"} <= set(self.screened):
            return ""
        return "provided that no calibration example was used in training, "

    @property
    def _scope(self) -> str:
        """The examples that the promise covers."""
        unseen = " whose input was not used in training" if self.left_out else ""
        if not self.by_class:
            return f" from the same distribution{unseen}"
        kind = "label" if self.loss == "harm" else "class at full depth"
        but = f" (but {', '.join(self.small_classes)}: too few examples)" if self.small_classes else ""
        return f" of every {kind}{but}, drawn from that class's distribution{unseen},"

    def to_json(self) -> dict[str, Any]:
        """The document of calibration.json."""
        return {**asdict(self), "promise": self.promise}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Calibration:
        """Read a document of `to_json`; keys that this version does not know are left out."""
        known = {one.name: document[one.name] for one in fields(cls) if one.name in document}
        classes = {name: ClassResult(**found) for name, found in document.get("classes", {}).items()}
        return cls(**{**known, "classes": classes})
