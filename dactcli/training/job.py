"""What the stages of one training share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dactcli.data.batches import Encoded
from dactcli.listening import Listener
from dactcli.model.dact import DactForSequenceClassification
from dactcli.recipe.schema import Recipe
from dactcli.results import EvalResult
from dactcli.training.signals import Stopper
from dactcli.training.stages import final_objective

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

# Evaluates (model, tokenizer, examples, rules, difficulty) on the validation split; given by the caller, because
# training and evaluation do not know each other.
Evaluate = Callable[[DactForSequenceClassification, "Tokenizer", Encoded, list[str], "list[int] | None"], EvalResult]


@dataclass(frozen=True)
class Job:
    """The state that all stages of one run share."""

    recipe: Recipe
    run: Path
    model: DactForSequenceClassification
    tokenizer: Tokenizer
    train: Encoded
    validation: Encoded
    difficulty: list[int] | None
    evaluate: Evaluate
    listener: Listener
    device: torch.device
    rows: list[int]
    stopper: Stopper
    weights_only: bool
    adapter: Any = None  # the `peft.PeftModel` around the encoder

    def evaluation(self, *, full: bool = False) -> EvalResult:
        """The validation split, by the recipe's rules, or by `full` while the units are not trained.

        Args:
            full: Whether to evaluate `full` too if the recipe does not.
        """
        rules = self.recipe.evaluation.rules or ["full"]
        if self.model.config.objective != final_objective(self.recipe):
            rules = ["full"]
        if full and "full" not in rules:
            rules = [*rules, "full"]
        return self.evaluate(self.model, self.tokenizer, self.validation, rules, self.difficulty)
