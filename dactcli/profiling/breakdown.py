"""Where adaptive inference spends its time: in each layer, in the units, in the rule.

The parts are timed in a run of their own, because waiting for the device after every part costs time itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from dactcli.halting.answers import Answers
from dactcli.halting.base import Rule
from dactcli.halting.state import HaltingState
from dactcli.profiling.latency import synchronise
from dactcli.profiling.ways import run_batch
from dactcli.results import Breakdown

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

Result = TypeVar("Result")


class Clock:
    """Adds up milliseconds by part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)

    def time(self, part: str, run: Callable[..., Result], *args: Any) -> Result:
        """Run something and charge its time to a part."""
        synchronise(self.device)
        started = time.perf_counter()
        result = run(*args)
        synchronise(self.device)
        self.spent[part] += (time.perf_counter() - started) * 1000
        return result


class _Part:
    """An object of which some methods are timed."""

    def __init__(self, inner: Any, clock: Clock, parts: Mapping[str, str]) -> None:
        self._inner, self._clock, self._parts = inner, clock, parts

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        part = self._parts.get(name)
        if part is None:
            return value
        # a layer is named by its number, the first argument
        return lambda *args: self._clock.time(f"{part} {args[0]}" if part == "layer" else part, value, *args)


class _TimedRule(Rule):
    """A rule whose decision is timed."""

    name = "timed"

    def __init__(self, rule: Rule, clock: Clock) -> None:
        super().__init__()
        self.inner, self.clock = rule, clock
        self.reads_streak, self.answers = rule.reads_streak, rule.answers

    def of(self, answers: Answers) -> Rule:
        """As the rule's own."""
        return _TimedRule(self.inner.of(answers), self.clock)

    def score(self, state: HaltingState) -> Tensor:
        """As the rule's own."""
        return self.inner.score(state)

    def halts(self, state: HaltingState) -> Tensor:
        """As the rule's own."""
        return self.clock.time("rule", self.inner.halts, state)

    def answer(self, state: HaltingState) -> Tensor:
        """As the rule's own."""
        return self.inner.answer(state)


class _TimedModel:
    """What the engine needs of a model, with its parts timed."""

    def __init__(self, model: DactForSequenceClassification, clock: Clock) -> None:
        self.mixes, self.classes, self.reads_first_token = model.mixes, model.classes, model.reads_first_token
        self.exit_heads, self.exit_outputs = model.exit_heads, partial(clock.time, "units", model.exit_outputs)
        self.adapter: Any = _Part(model.adapter, clock, {"embed": "embeddings", "run": "layer", "select": "regrouping"})
        self.answers = model.answers


def break_down(
    model: DactForSequenceClassification, rules: Sequence[Rule], batches: Sequence[Mapping[str, Tensor]]
) -> Breakdown:
    """Milliseconds by part, summed over the batches.

    Args:
        model: The model.
        rules: The rule of each batch.
        batches: The batches.
    """
    clock = Clock(model.device)
    timed: Any = _TimedModel(model, clock)
    started = time.perf_counter()
    for rule, batch in zip(rules, batches, strict=True):
        run_batch(timed, _TimedRule(rule, clock), batch)
    total, spent = (time.perf_counter() - started) * 1000, dict(clock.spent)
    layers = [spent.get(f"layer {layer}", 0.0) for layer in range(1, model.exit_heads.layers + 1)]
    named = {part: spent.get(part, 0.0) for part in ("embeddings", "units", "rule", "regrouping")}
    return Breakdown(
        layers_ms=layers,
        embeddings_ms=named["embeddings"],
        units_ms=named["units"],
        rule_ms=named["rule"],
        regrouping_ms=named["regrouping"],
        other_ms=max(total - sum(layers) - sum(named.values()), 0.0),
    )
