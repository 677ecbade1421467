"""An estimate with the bounds of its interval."""

from __future__ import annotations

import warnings
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

    @property
    def median(self) -> float:
        """Deprecated: the earlier name of `value`."""
        warnings.warn("Interval.median is now Interval.value", DeprecationWarning, stacklevel=2)
        return self.value

    def to_json(self) -> dict[str, Any]:
        """The interval for a JSON document, where the key of the estimate is `median`."""
        return {"median": self.value, "low": self.low, "high": self.high}
