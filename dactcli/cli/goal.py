"""The value of `dact eval --calibrate` as a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest

PLACE = "--calibrate"
HOW = "write risk=0.01,delta=0.05[,loss=disagreement|harm][,by=class] or budget=3.0"


def parse_goal(text: str, rules: list[str] | None) -> RiskRequest | BudgetRequest:
    """`risk=...,delta=...,loss=...,by=class` or `budget=...` as a request.

    Args:
        text: As the user wrote it.
        rules: As `--rule` was given.

    Raises:
        UsageError: It is neither, or a value does not fit.
    """
    from dactcli.errors import UsageError
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest

    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        known = key in ("risk", "delta", "loss", "budget") or (key, value) == ("by", "class")
        if not equals or not known or key in values:
            raise UsageError(f"{part!r} is not understood", place=PLACE, remedy=HOW)
        values[key] = value if key in ("loss", "by") else _number(key, value)
    if ("budget" in values) == ("risk" in values) or ("budget" in values and len(values) > 1):
        raise UsageError(f"{text!r} is not understood", place=PLACE, remedy=HOW)
    values["by_class"] = values.pop("by", None) is not None
    chosen = tuple(rules or ())
    return BudgetRequest(values["budget"], chosen) if "budget" in values else RiskRequest(**values, rules=chosen)


def _number(key: str, value: str) -> float:
    import math

    from dactcli.errors import UsageError

    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not number > 0 or (key != "budget" and number >= 1) or math.isinf(number):
        span = "above 0" if key == "budget" else "between 0 and 1"
        raise UsageError(f"{key} is {value!r}", place=PLACE, remedy=f"give a number {span}")
    return number
