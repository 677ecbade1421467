"""Runs that were interrupted, to be damaged and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import STEPS, TINY, Interrupt, Silence, shared, train

from dactcli.runs import folders as runs


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose run ended in stage 2, with checkpoints 3 and 6 there and stage 1 done."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KeyboardInterrupt):
        train(folder, TINY, STEPS, listener=Interrupt(2, 8))
    return shared(folder)


@pytest.fixture
def broken(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run, in `tmp_path / runs`, to be damaged."""
    shutil.copytree(interrupted / "runs", tmp_path / "runs", symlinks=True)
    return tmp_path / "runs" / "tiny-1"


@pytest.fixture
def resume(tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """Goes on with the run in `tmp_path / runs`; gives its folder and the notices that the user saw."""

    def go(*overrides: str, **options: bool) -> tuple[Path, list[str]]:
        # the recipe names its output folder, which is another one in a copy
        run = runs.unfinished(tmp_path / "runs", "tiny")
        assert run is not None
        recipe = run / "recipe.yaml"
        text = recipe.read_text().splitlines(keepends=True)
        here = [f"  dir: {tmp_path / 'runs'}\n" if line.startswith("  dir: ") else line for line in text]
        recipe.write_text("".join(here))
        listener = Silence()
        result = train(tmp_path, TINY, STEPS, *overrides, listener=listener, resume=run, **options)
        return Path(result.run), [str(value) for what, value in listener.heard if what == "notice"]

    return go
