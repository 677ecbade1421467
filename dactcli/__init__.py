"""dact: BERT-like encoders that run only as many layers as each answer needs.

Importing this package imports nothing heavy; its public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.library import evaluate, fit, inspect, open_run, predict, profile
    from dactcli.model import DactConfig, DactForSequenceClassification, DactOutput

__all__ = [
    "DactConfig",
    "DactForSequenceClassification",
    "DactOutput",
    "evaluate",
    "fit",
    "inspect",
    "open_run",
    "predict",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("dactcli.model" if name.startswith("Dact") else "dactcli.library"), name)
    raise AttributeError(f"module 'dactcli' has no attribute {name!r}")
