"""An estimate with the bounds of its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95% bootstrap interval.

    Attributes:
        value: The estimate.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The interval in a JSON document, where the estimate is called `median`."""
        return {"median": self.value, "low": self.low, "high": self.high}
