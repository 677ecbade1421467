"""Predict with an export, without PyTorch: needs onnxruntime, tokenizers and numpy alone.

    from dactcli.runtime import load

    model = load("sst2-onnx")
    for answer in model.predict(["a fine film ."]):
        print(answer.label, answer.exit_layer)

Importing this package imports nothing heavy; its public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.runtime.manifest import Manifest
    from dactcli.runtime.model import ExportedModel, load

__all__ = ["ExportedModel", "Manifest", "load"]

_HOMES = {"ExportedModel": "model", "load": "model", "Manifest": "manifest"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dactcli.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dactcli.runtime' has no attribute {name!r}")
