"""A certificate that cannot be had costs no training: the run is finished and saved before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import TINY, Told, dact, tiny_on_files

import dactcli
from dactcli.errors import ResourceError
from dactcli.runs.calibration import CALIBRATION

EASY = ["data.examples=64", "training.max_steps=2", "evaluation.risk=0.4"]  # an untrained model passes somewhere


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)


def rule(run: Path | str) -> str:
    """The rule that the Auto classes would halt by."""
    return str(json.loads((Path(run) / "config.json").read_text())["rule"])


def test_a_calibration_without_examples_costs_no_training() -> None:
    Path("tiny.yaml").write_text(tiny_on_files("validation.jsonl"))  # whose examples all served training
    done = dact("finetune", "tiny.yaml", "--set", "training.max_steps=2", "--json")
    assert done.exit_code == 0
    lead = "note: the run is finished and saved, but certifying its risk failed: "
    assert f"{lead}calibration: no example is left to calibrate on: of 40, 40 also in validation;" in done.stderr
    run = Path(json.loads(done.stdout)["run"])
    assert json.loads(done.stdout)["calibration"] is None
    assert rule(run) == "exact"
    assert (run / "summary.json").is_file()


@pytest.mark.parametrize(
    "error", [ResourceError("cannot be written"), OSError(28, "No space left on device"), MemoryError()]
)
def test_a_machine_that_fails_while_certifying_costs_no_training(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    told = Told()
    with monkeypatch.context() as broken:
        broken.setattr("dactcli.evaluation.calibrate.keep_calibration", fail)
        made = dactcli.fit("tiny.yaml", overrides=EASY, listener=told)
    assert made.calibration is None
    assert rule(made.run) == "exact"
    assert any("the run is finished and saved" in text for text in told.notices)
    assert dactcli.evaluate(made.run).rules.keys() == {"full", "paper", "exact"}


def test_resuming_certifies_what_was_interrupted_before_its_certificate() -> None:
    class Cut(Told):
        def working(self, description: str) -> Any:
            raise KeyboardInterrupt

    told = Cut()
    with pytest.raises(KeyboardInterrupt):
        dactcli.fit("tiny.yaml", overrides=EASY, listener=told)
    assert told.notices == ["the run is finished and saved; `resume` certifies its risk"]
    run = Path("runs/tiny-1")
    assert (run / "summary.json").is_file()
    assert not (run / CALIBRATION).exists()
    made = dactcli.fit("tiny.yaml", overrides=EASY, resume=True)
    assert made.already_finished
    assert made.calibration is not None
    assert made.calibration.attempt == 1
    before = (run / CALIBRATION).read_bytes()
    assert dactcli.fit("tiny.yaml", overrides=EASY, resume=True).calibration == made.calibration
    assert (run / CALIBRATION).read_bytes() == before
