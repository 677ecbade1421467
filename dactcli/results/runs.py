"""What `dact runs` computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """One line of `dact runs`.

    Attributes:
        run: Its folder.
        task: The recipe's task.
        finished: Whether it came to its end.
        latest: Whether `latest` names it.
        metric_name: Name of the task's metric; None while unfinished, like all that follows but the last two, and where
            the metric of this rule is not known.
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
