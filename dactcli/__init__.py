"""dact: BERT-like encoders that run only as many layers as each answer needs.

Importing this package imports nothing heavy; its public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest
    from dactcli.library import calibrate, evaluate, fit, inspect, open_run, predict, profile
    from dactcli.model import DactConfig, DactForSequenceClassification, DactOutput

__all__ = [
    "BudgetRequest",
    "DactConfig",
    "DactForSequenceClassification",
    "DactOutput",
    "RiskRequest",
    "calibrate",
    "evaluate",
    "fit",
    "inspect",
    "open_run",
    "predict",
    "profile",
]

# where a public name stands that is not in dactcli.library
_HOMES = {
    **dict.fromkeys(("BudgetRequest", "RiskRequest"), "dactcli.evaluation.requests"),
    **dict.fromkeys(("DactConfig", "DactForSequenceClassification", "DactOutput"), "dactcli.model"),
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "dactcli.library")), name)
    raise AttributeError(f"module 'dactcli' has no attribute {name!r}")
