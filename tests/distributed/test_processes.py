"""Several processes give what one gives: the same losses, metrics, calibrations, comparisons and predictions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import HERE, TORCHRUN, codes, environment, launch, sentences, write_data
from safetensors.torch import load_file
from support import dact

from dactcli import distributed
from dactcli.errors import ResourceError
from dactcli.model.device import find_device


@dataclass
class Pair:
    """The folders of one process and of two, which were given the same command lines, and what the two printed."""

    alone: Path
    both: Path
    process: subprocess.CompletedProcess[str]

    def documents(self, name: str) -> tuple[Any, Any]:
        """A JSON file of each."""
        return json.loads((self.alone / name).read_text()), json.loads((self.both / name).read_text())


COMMANDS: list[list[object]] = [
    ["finetune", "words.yaml", "--device", "cpu", "--json"],
    ["eval", "run", "--device", "cpu", "--output", "eval.json"],
    ["eval", "run", "--device", "cpu", "--data", "one.csv", "--output", "one.json"],
    ["eval", "run", "--device", "cpu", "--calibrate", "risk=0.3,delta=0.3", "--output", "calibration.json"],
    ["eval", "run", "--device", "cpu", "--compare", "--output", "compare.json"],
    [
        "predict",
        "train.csv",
        "--run",
        "run",
        "--rule",
        "exact",
        "--device",
        "cpu",
        "--output",
        "answers.jsonl",
        "--resume",
    ],
    ["predict", "one.csv", "--run", "run", "--device", "cpu"],
    ["runs"],
]
TOO_SMALL: list[object] = ["finetune", "words.yaml", "--device", "cpu", "--set", "training.batch_size=1"]


class Break(Exception):
    """Ends a prediction as a kill would."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    patch = pytest.MonkeyPatch()
    alone, both = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("both")
    write_data(alone)
    patch.chdir(alone)
    patch.setattr("dactcli.prediction.windows.WINDOW", 20)
    patch.setattr("dactcli.data.rows.CHUNK", 10)
    with patch.context() as interrupted:
        assert dact(*COMMANDS[0]).exit_code == 0
        shutil.copytree(alone / "runs" / "words-1", alone / "run")
        interrupted.setattr("dactcli.prediction.answer_columns.AnswerColumns.row", _break_after(30))
        with pytest.raises(Break):
            dact(*COMMANDS[5][:-1])
    for name in ("run", "answers.jsonl.part", "answers.jsonl.part.json"):
        (shutil.copytree if name == "run" else shutil.copy)(alone / name, both / name)
    write_data(both)
    for command in COMMANDS[1:]:
        result = dact(*command)
        assert result.exit_code == 0, result.stderr
    patch.undo()
    return Pair(alone, both, launch(both, *COMMANDS, TOO_SMALL))


def _break_after(rows: int) -> Callable[..., dict[str, Any]]:
    from dactcli.prediction.answer_columns import AnswerColumns

    left, row = iter(range(rows)), AnswerColumns.row

    def answer(self: AnswerColumns, *arguments: Any) -> dict[str, Any]:
        if next(left, None) is None:
            raise Break
        return row(self, *arguments)

    return answer


def test_two_processes_do_what_one_does(pair: Pair) -> None:
    assert codes(pair.both) == [[0] * len(COMMANDS) + [2]] * 2, pair.process.stderr  # the last is `TOO_SMALL`


def test_the_loss_curve_is_the_same(pair: Pair) -> None:
    def curve(folder: Path) -> list[dict[str, Any]]:
        lines = (folder / "runs" / "words-1" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    alone, both = curve(pair.alone), curve(pair.both)
    assert [(line["stage"], line["step"]) for line in alone] == [(line["stage"], line["step"]) for line in both]
    for name in ("loss", "layers_mean", "halting_weights", "epoch", "learning_rate"):
        one, two = ([line[name] for line in lines if name in line] for lines in (alone, both))
        assert torch.tensor(one).double().allclose(torch.tensor(two).double(), rtol=1e-5, atol=0), name
    assert [line["evaluation"] for line in alone if "evaluation" in line] == [
        line["evaluation"] for line in both if "evaluation" in line
    ]


def test_the_final_metric_is_the_same(pair: Pair) -> None:
    alone, both = pair.documents("runs/words-1/eval.json")
    assert alone["rules"] == both["rules"]
    assert 0.7 < alone["rules"]["full"]["metric"] < 1
    assert 1 < alone["rules"]["max_prob:0.52"]["layers_mean"] < 2
    alone, both = pair.documents("runs/words-1/summary.json")
    assert (alone["processes"], both["processes"]) == (1, 2)
    assert alone["steps"] == both["steps"]


def test_metrics_and_calibration_are_gathered(pair: Pair) -> None:
    for name in ("eval.json", "one.json", "compare.json"):
        alone, both = pair.documents(name)
        assert alone == both, name
    alone, both = pair.documents("run/calibration.json")
    assert both.pop("threshold") == pytest.approx(alone.pop("threshold"))
    assert alone == both
    for path in (pair.alone / "run" / "outputs").iterdir():
        one, two = load_file(path), load_file(pair.both / "run" / "outputs" / path.name)
        assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in ("y", "h"))


def test_a_training_ends_with_the_same_certificate(pair: Pair) -> None:
    """40 examples (one more stands in train) cannot certify 1%, so the sound rule stays; it is the first attempt."""
    alone, both = pair.documents("runs/words-1/calibration.json")
    assert (alone["rule"], alone["certified"], alone["examples"], alone["attempt"]) == ("exact", False, 40, 1)
    for name in ("rule", "certified", "examples", "distinct", "epsilon", "delta", "attempt", "data_fingerprint"):
        assert alone[name] == both[name], name
    alone, both = pair.documents("runs/words-1/calibration-attempts.json")
    assert len(alone["attempts"]) == len(both["attempts"]) == 1
    document, _ = json.JSONDecoder().raw_decode(pair.process.stdout)
    assert document["calibration"]["rule"] == "exact"


def test_predictions_are_in_order_and_go_on(pair: Pair) -> None:
    alone, both = ((folder / "answers.jsonl").read_text().splitlines() for folder in (pair.alone, pair.both))
    assert len(alone) == len(both) == 61
    for line, other in zip(map(json.loads, alone), map(json.loads, both), strict=True):
        assert other.pop("probabilities") == pytest.approx(line.pop("probabilities"), abs=1e-5)
        assert line == other


def test_process_0_alone_writes_and_prints(pair: Pair) -> None:
    def files(folder: Path) -> list[str]:
        found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        kept = (name for name in found if "tfevents" not in name and not name.startswith(("codes-", "commands.")))
        return sorted(re.sub(r"-[0-9a-f]{16}\.", ".", name) for name in kept)  # the weights' last digits differ

    assert files(pair.alone) == files(pair.both)
    for stage in (pair.both / "runs" / "words-1" / "tensorboard").iterdir():
        assert len(list(stage.iterdir())) == 1
    document, end = json.JSONDecoder().raw_decode(pair.process.stdout)
    assert document["steps"] == pair.documents("runs/words-1/summary.json")[0]["steps"]
    assert pair.process.stdout[end:].count('"exit_layer"') == 1
    assert pair.process.stderr.count("stage 1/4 joint:") == 1
    assert pair.process.stderr.count("61 predictions in answers.jsonl") == 1


def test_agreements(tmp_path: Path) -> None:
    words = [*TORCHRUN[:-1], "3", str(HERE / "agreements.py")]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_error_that_all_meet_is_told_once(pair: Pair) -> None:
    assert sentences(pair.process.stderr) == [
        "error: training.batch_size: is 1, and 2 processes share each batch; raise it, or start fewer processes"
    ]


def test_an_error_of_one_process_ends_all(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = launch(tmp_path, ["finetune", "words.yaml", "--device", "cpu"], fault=("disk_full_in_step", 2))
    assert codes(tmp_path) == [[5], [5]]
    (sentence,) = sentences(done.stderr)
    assert "cannot be written: [Errno 28]" in sentence
    assert "finishing this step" not in done.stderr  # which is what the launcher's SIGTERM would otherwise give


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of process 1 of two, as torchrun makes it."""
    values = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_alone_nothing_is_shared() -> None:
    assert not distributed.launched()
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size(), distributed.local_rank()) == (0, 1, 0)
        items = [1, 2]
        assert distributed.share(items) is items
        assert distributed.join(items) == items
        assert distributed.on_main(lambda: 3) == distributed.broadcast(3) == distributed.all_reduce_max(3) == 3
        distributed.raise_everywhere(None)
        distributed.barrier()
    with distributed.failing(2) as speaks:
        assert speaks
    assert distributed.failure() is None
    assert distributed.lost(RuntimeError("Connection closed by peer")) is None


@pytest.mark.usefixtures("second_of_two")
def test_what_is_not_shared_is_done_by_process_0() -> None:
    assert distributed.launched_rank() == 1
    assert distributed.world_size() == 1  # not before `together`
    result = dact("runs", "nowhere")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.usefixtures("second_of_two")
def test_before_anything_is_shared_process_0_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "GRACE", 0.0)
    result = dact("finetun")
    assert (result.exit_code, result.output) == (2, "")


@pytest.mark.usefixtures("second_of_two")
def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == torch.device("cuda", 1)
    assert chosen == [1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ResourceError, match="finds no device of its own among 1; start 1 processes here"):
        find_device("cuda")
    with pytest.raises(ResourceError, match="several processes cannot share it"):
        find_device("mps")
