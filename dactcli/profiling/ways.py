"""The ways that are compared: transformers' own classifier, full depth, adaptive inference; and what each needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dactcli.errors import UsageError
from dactcli.halting.base import Rule
from dactcli.halting.limits import ForcedDepths
from dactcli.halting.rules import Full
from dactcli.model.encoders import adapt
from dactcli.model.engine import EngineOutput, run_adaptive

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.profiling.latency import Way

Batch = Mapping[str, Tensor]
ArrayRows = dict[str, NDArray[Any]]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def stock_classifier(model: DactForSequenceClassification) -> Any:
    """Transformers' own sequence classifier around the same encoder weights.

    Args:
        model: The DACT model whose encoder is used.

    Returns:
        The stock model, in evaluation mode on the same device. Its head is fresh; only its time is of interest.
    """
    from transformers import AutoModelForSequenceClassification

    config = type(model.encoder.config).from_dict({**model.encoder.config.to_dict(), "num_labels": model.classes})
    stock = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    stock.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    return stock.to(device=model.device, dtype=model.dtype).eval()


def find_dtype(name: str) -> torch.dtype:
    """The type that `--dtype` names.

    Raises:
        UsageError: It names none.
    """
    if name not in DTYPES:
        raise UsageError(f"type {name!r} is unknown", place="`dtype`", remedy=f"use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def run_batch(model: Any, rule: Rule, batch: Batch) -> EngineOutput:
    """One batch through the engine."""
    return run_adaptive(model, rule, batch)


def stock_batch(batch: Batch) -> Batch:
    """A batch as stock models take it, to which every window of a longer text is a text."""
    texts = batch.get("texts")
    if texts is None:
        return batch
    labels = {"labels": batch["labels"][texts]} if "labels" in batch else {}
    return {name: values for name, values in batch.items() if name != "texts"} | labels


@dataclass(frozen=True)
class Served:
    """An export beside the model that it was made from, and ONNX Runtime without early exit.

    Attributes:
        precision: Of both.
        rule: The halting rule of the export.
        stock: Answers the rows of a batch at full depth.
        export: Answers batches of positions and rows, of so many examples, and gives the exit layer of each [E]. Its
            last argument is the fewest tokens for a stage to run on.
    """

    precision: str
    rule: str
    stock: Callable[[ArrayRows], object]
    export: Callable[[Iterable[tuple[Any, ArrayRows]], int, int], NDArray[np.int64]]


def arrays(batch: Batch) -> ArrayRows:
    """A batch as ONNX Runtime takes it."""
    rows = {name: values.numpy() for name, values in batch.items()}
    ids = rows["input_ids"]
    return {"token_type_ids": np.zeros_like(ids), "attention_mask": np.ones_like(ids), **rows}


@dataclass(frozen=True)
class Subject:
    """What is profiled.

    Attributes:
        model: The DACT model, in evaluation mode.
        stock: The stock classifier around the same encoder.
        rule: What adaptive inference halts by.
        depths: The layer that each example is made to stop at [E]; replaces the rule.
        served: An export of the model, to be timed beside it.
    """

    model: DactForSequenceClassification
    stock: Any
    rule: Rule
    depths: Tensor | None = None
    served: Served | None = None

    @property
    def rule_name(self) -> str:
        """For the result."""
        return str(self.rule) if self.depths is None else "depths"

    def rule_for(self, positions: Sequence[int]) -> Rule:
        """What the examples at these positions halt by."""
        return self.rule if self.depths is None else ForcedDepths(self.depths[list(positions)].to(self.model.device))

    def compile(self) -> None:
        """Compile the encoder's layers, those of the stock classifier likewise."""
        for encoder in (self.model.adapter, adapt(self.stock.base_model)):
            for layer in encoder.layers:
                layer.compile(dynamic=True)

    def ways(self, batches: Sequence[tuple[list[int], Batch]]) -> dict[str, Way]:
        """The three ways to run the batch of a number."""
        rules = [self.rule_for(positions) for positions, _ in batches]

        def stock(number: int) -> object:
            return self.stock(**stock_batch(batches[number][1]))

        def full(number: int) -> object:
            return self.model(**batches[number][1], rule=Full())

        def adaptive(number: int) -> object:
            return run_batch(self.model, rules[number], batches[number][1])

        found: dict[str, Way] = {"stock": stock, "full": full, "adaptive": adaptive}
        if (served := self.served) is not None:
            rows = [arrays(batch) for _, batch in batches]
            alone = [(np.arange(len(positions)), one) for (positions, _), one in zip(batches, rows, strict=True)]
            found["onnx stock"] = lambda number: served.stock(rows[number])
            found["export"] = lambda number: served.export([alone[number]], len(alone[number][0]), 0)
        return found
