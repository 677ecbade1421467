"""Kept outputs: they say how they are to be read, and files of an earlier version still serve."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import TINY, train

from dactcli import open_run
from dactcli.evaluation.examples import run_examples
from dactcli.halting.answers import Classes
from dactcli.halting.decision import decide
from dactcli.halting.rules import Full, make_rule
from dactcli.runs import outputs as outputs_module
from dactcli.runs.load import Run
from dactcli.runs.outputs import LayerOutputs, cached_outputs


def kept(run: Run, split: str = "validation") -> LayerOutputs:
    encoded, _ = run_examples(run, split, None, print)
    return cached_outputs(run, encoded, split, batch_size=64)


def never(*arguments: object, **keywords: object) -> LayerOutputs:
    raise AssertionError("the encoder ran again")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    return open_run(shutil.copytree(tiny_run, tmp_path / "run"), device="cpu")


def test_outputs_decide_as_their_model_was_trained() -> None:
    torch.manual_seed(0)
    y, h = torch.rand(50, 4, 3).softmax(-1), torch.rand(50, 4)
    rule = make_rule("layer:2")
    mixed, alone = LayerOutputs(y, h), LayerOutputs(y, h, objective="layers")
    assert (mixed.mixes, alone.mixes) == (True, False)
    torch.testing.assert_close(alone.decide(Full()).answer, y[:, -1])
    torch.testing.assert_close(mixed.decide(Full()).answer, decide(Full(), y, h).answer)
    assert not torch.allclose(mixed.decide(Full()).answer, y[:, -1])
    torch.testing.assert_close(mixed.decide(rule).answer, y[:, 1])


def test_kept_outputs_come_back_with_what_the_model_knows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = kept(run)
    monkeypatch.setattr(outputs_module, "collect", never)
    again = kept(run)
    assert torch.equal(fresh.y, again.y)
    for found in (fresh, again):
        assert (found.objective, found.answers) == ("dact", Classes())
        assert found.names == list(run.model.config.id2label.values())
        assert (found.layers, found.classes) == (run.model.units.layers, 2)


def test_a_file_of_tensors_alone_still_serves(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = kept(run)
    (path,) = (run.folder / "outputs").glob("validation-*.safetensors")
    save_file({name: value.clone() for name, value in load_file(path).items()}, path)
    with safe_open(path, "pt") as file:
        assert file.metadata() is None
        assert set(file.keys()) == {"y", "h"}
    monkeypatch.setattr(outputs_module, "collect", never)
    again = kept(run)
    assert torch.equal(fresh.h, again.h)
    assert again.names == fresh.names


def test_outputs_of_a_run_without_the_loss_stand_alone(tmp_path: Path) -> None:
    run = open_run(train(tmp_path, TINY, "dact.tau=null").run, device="cpu")
    found = kept(run)
    assert (found.objective, found.mixes) == ("layers", False)
    torch.testing.assert_close(found.decide(Full()).answer, found.y[:, -1])
