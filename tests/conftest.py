"""Settings and fixtures shared by the tests."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings
from support import SHARED, contents, shared, train

import dactcli

settings.register_profile("dact", deadline=None, print_blob=True)
settings.load_profile("dact")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move tests marked `last` to the end: they judge what the other tests of their module found."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session", autouse=True)
def _modules_are_imported() -> None:
    """Import every module before any test replaces a name, since a later import would keep the replacement for good."""
    for module in pkgutil.walk_packages(dactcli.__path__, "dactcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.fixture(scope="session", autouse=True)
def _nothing_measures_the_exporter_of_torch() -> Iterator[None]:
    """Export without the tracer of the coverage, which sees none of our code there and slows it down by half."""
    import torch.onnx

    export = torch.onnx.export

    def untraced(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return export(*arguments, **options)
        finally:
            sys.settrace(tracer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", untraced)
        yield


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the built-in task, too small to be any good; for fixtures that outlive a test."""
    return shared(Path(train(tmp_path_factory.mktemp("trained")).run))


@pytest.fixture
def tiny_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The test's own copy of the trained run, which it may change."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(trained_run.parent, folder / "runs", symlinks=True)
    yield folder / "runs" / trained_run.name
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _shared_folders_stay_as_they_are() -> Iterator[None]:
    """Fails the test that changes a folder that tests share: the ones after it would see the change."""
    before = {folder: contents(folder) for folder in SHARED}
    yield
    for folder, files in before.items():
        changed = sorted({str(path) for path, _ in files ^ contents(folder)})
        assert not changed, f"{folder} is shared, and the test changed {', '.join(changed)}; change a copy"
