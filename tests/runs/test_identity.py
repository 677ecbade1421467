"""The identity of a loaded run: its files are read once, its type and length are those of the moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import dactcli
from dactcli.runs import identity
from dactcli.storage import sha256


@pytest.fixture
def tiny_copy(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed during the test."""
    names: list[str] = []
    plain = sha256

    def counted(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr("dactcli.runs.identity.sha256", counted)
    return names


def test_a_loaded_run_hashes_its_weights_once(tiny_copy: Path, hashed: list[str]) -> None:
    run = dactcli.open_run(tiny_copy, device="cpu")
    dactcli.calibrate(run, dactcli.RiskRequest(0.2, 0.5), split="calibration")
    dactcli.evaluate(run)
    assert hashed.count("model.safetensors") == 1


def test_another_type_or_length_is_another_model(tiny_copy: Path) -> None:
    run = dactcli.open_run(tiny_copy, device="cpu")
    before = identity.identify(run)
    run.model.to(torch.bfloat16)
    run.tokenizer.model_max_length = 7
    after = identity.identify(run)
    assert (before.dtype, after.dtype, after.max_length) == ("float32", "bfloat16", 7)
    assert before.digest != after.digest


def test_a_run_that_is_opened_again_sees_its_files_anew(tiny_copy: Path) -> None:
    before = identity.identify(dactcli.open_run(tiny_copy, device="cpu"))
    config = tiny_copy / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"classifier_dropout": 0.3}))
    after = identity.identify(dactcli.open_run(tiny_copy, device="cpu"))
    assert after.weights_sha256 == before.weights_sha256
    assert after.config_sha256 != before.config_sha256
