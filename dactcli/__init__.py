"""dact: BERT-like encoders that run only as many layers as each answer needs.

Importing this package imports nothing heavy; its public names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.model import DactConfig, DactForSequenceClassification, DactOutput

__all__ = ["DactConfig", "DactForSequenceClassification", "DactOutput"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import dactcli.model

        return getattr(dactcli.model, name)
    raise AttributeError(f"module 'dactcli' has no attribute {name!r}")
