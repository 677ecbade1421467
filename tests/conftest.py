"""Settings and fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings
from support import train

settings.register_profile("dact", deadline=None, print_blob=True)
settings.load_profile("dact")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the built-in task, too small to be any good."""
    return Path(train(tmp_path_factory.mktemp("tiny")).run)
