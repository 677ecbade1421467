"""Result of `dact runs`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """One line of `dact runs`.

    Attributes:
        run: The run folder.
        task: The recipe's task.
        finished: Whether the run is finished.
        latest: Whether `latest` points to this run.
        metric_name: Name of the task's metric; None while unfinished, like all that follows but the last two, and where
            the metric of this rule is not known.
        metric: Metric on validation under `rule`.
        rule: The run's halting rule.
        layers_mean: Mean layers under that rule.
        layers: N.
        majority: Metric of the majority class on validation; None if unknown.
        modified: Modification time of the run's newest file, in seconds since 1970.
        megabytes: Total size of the run's files.
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
