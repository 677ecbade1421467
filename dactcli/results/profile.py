"""Result of `dact profile`."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

from dactcli.results.capacity import CapacityPlan
from dactcli.results.interval import Interval


@dataclass(frozen=True)
class Measurement:
    """Timings of one way to run a batch.

    Attributes:
        latency_ms_p50: Median milliseconds per batch; p90 and p99 likewise.
        examples_per_second: Throughput of the median round.
        latency_relative_iqr: Interquartile range of the repeated measurements, as a share of their median.
        flops_per_example: Floating point operations, each example at its own length; None if not counted.
        peak_memory_mib: Weights plus peak allocation, in MiB; None if not measured.
        layers_mean: Mean layers run; None for the stock encoder.
        depths: Number of examples that stopped after layer 1..N.
        samples_ms: Every measurement.
    """

    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    examples_per_second: float
    latency_relative_iqr: float
    flops_per_example: float | None = None
    peak_memory_mib: float | None = None
    layers_mean: float | None = None
    depths: list[int] | None = None
    samples_ms: list[float] = field(default_factory=list)

    @property
    def latency_ms_spread(self) -> float:
        """Deprecated: the earlier name of `latency_relative_iqr`."""
        warnings.warn("latency_ms_spread is now latency_relative_iqr", DeprecationWarning, stacklevel=2)
        return self.latency_relative_iqr


@dataclass(frozen=True)
class Breakdown:
    """Where adaptive inference spends its time, in milliseconds over one round.

    Attributes:
        layers_ms: Time in encoder layers 1..N.
        embeddings_ms: Time before the first layer.
        units_ms: Time in the exit heads.
        rule_ms: Time in the halting rule, including the wait for the device.
        regrouping_ms: Time to drop the rows that stopped.
        other_ms: All remaining time.
    """

    layers_ms: list[float]
    embeddings_ms: float
    units_ms: float
    rule_ms: float
    regrouping_ms: float
    other_ms: float


@dataclass(frozen=True)
class OnnxCase:
    """ONNX Runtime on the same batches, in the same rotation.

    Attributes:
        precision: Of both: `float32` or `int8`.
        rule: The halting rule of the export.
        stock: The same encoder at full depth with one classifier, by the same optimiser.
        export: The export, from between whose stages rows leave.
        stock_ratio_to_stock: Its stock time over that of the transformers classifier.
        time_ratio_to_stock: The export's time over that of the transformers classifier.
        time_ratio_to_onnx_stock: The export's time over that of ONNX Runtime's stock.
        realised_share: The stock time of ONNX Runtime times the share of layers that ran, over the export's time.
    """

    precision: str
    rule: str
    stock: Measurement
    export: Measurement
    stock_ratio_to_stock: Interval
    time_ratio_to_stock: Interval
    time_ratio_to_onnx_stock: Interval
    realised_share: Interval


@dataclass(frozen=True)
class ProfileCase:
    """Stock encoder, full depth and adaptive inference on the same batches, measured alternately.

    Attributes:
        batch_size: Examples per batch; the largest batch for whole data sets.
        sequence_length: Tokens per example if fixed; None for real lengths.
        rule: The halting rule of adaptive inference.
        stock: The stock transformers classifier.
        full: All layers with all exit heads.
        adaptive: Adaptive inference under the rule.
        time_ratio_to_stock: Adaptive time over stock time.
        full_ratio_to_stock: Full-depth time over stock time.
        ideal_ms: Median stock time times the share of its layers' operations that ran.
        realised_share: Ideal time over adaptive time.
        breakdown: Breakdown of the adaptive time; None for whole data sets.
        metric: The task's metric under that rule; None without labels.
        metric_name: Name of the metric.
        baseline: Against an earlier profile: the ratio to stock now over then, and milliseconds now over then.
        onnx: ONNX Runtime beside them; None where no export is profiled.
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
    onnx: OnnxCase | None = None


@dataclass(frozen=True)
class TrainingCase:
    """One training step of DACT and of the plain classifier, measured alternately.

    Attributes:
        batch_size: Examples per batch.
        sequence_length: Tokens per example, if fixed.
        plain: The stock transformers classifier, with a loss on its single answer.
        dact: All layers' answers, halting weights and the complete loss.
        time_ratio_to_plain: DACT time over plain time.
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
    """A profile and its environment.

    Attributes:
        environment: Device, threads, float type and versions.
        cases: Latency per batch, for each batch size.
        throughput: All measured examples at once, batches by tokens, survivors pooled.
        training: The training step, if requested.
        notices: Warnings about the measurements.
        trace: The trace file that was written.
        examples: Number of measured examples.
        available: Number of examples in the split or file; None for random examples.
        plan: Hours and workers for a number of texts, if requested.
    """

    environment: dict[str, Any]
    cases: list[ProfileCase]
    throughput: list[ProfileCase] = field(default_factory=list)
    training: list[TrainingCase] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    trace: str | None = None
    examples: int | None = None
    available: int | None = None
    plan: CapacityPlan | None = None

    def to_json(self, *, raw: bool = False) -> dict[str, Any]:
        """The `dact profile --json` document; includes single measurements only if `raw`."""
        document = asdict(self)
        cases = [*self.cases, *self.throughput, *self.training]
        documents = [*document["cases"], *document["throughput"], *document["training"]]
        for case, entry in zip(cases, documents, strict=True):
            for name, value in vars(case).items():
                if isinstance(value, Interval):
                    entry[name] = value.to_json()
                elif isinstance(value, Measurement):
                    # the name of an earlier version, for its readers
                    entry[name]["latency_ms_spread"] = value.latency_relative_iqr
                    if not raw:
                        del entry[name]["samples_ms"]
        return document
