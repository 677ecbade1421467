"""A hub that stays in this process: what a push needs of huggingface_hub, remembered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest


class Hub:
    """What a push needs of huggingface_hub.HfApi; remembers what came, and fails where it is told to."""

    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        self.calls, self.public, self.at = [], False, "upload_folder"
        self.fault: Exception | None = None
        self.uploaded: dict[str, bytes] = {}

    def _called(self, what: str, values: dict[str, Any]) -> None:
        self.calls.append((what, values))
        if self.fault is not None and what == self.at:
            raise self.fault

    def create_repo(self, repo_id: str, **values: Any) -> str:
        self._called("create_repo", {"repo_id": repo_id, **values})
        return f"https://hub.example/{repo_id}"

    def model_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, *, folder_path: Path, **values: Any) -> None:
        self._called("upload_folder", values)
        self.uploaded = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def pretend(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Put it in place of the real one, with a token, and the network switched on."""
    found = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: found)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return found
