"""Signals: SIGINT and SIGTERM end a step and save; SIGKILL at any moment loses no more than the steps since a save."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from support import STEPS, TINY, Silence, train, weights_digest

from dactcli.errors import StoppedError
from dactcli.runs import folders as runs


class Send(Silence):
    """Sends this process signals at a step of a stage."""

    def __init__(self, stage: int, step: int, *numbers: int) -> None:
        super().__init__()
        self.stage, self.step, self.numbers, self.now = stage, step, numbers, 0

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        self.now = number

    def stepped(self, step: int) -> None:
        if (self.now, step) == (self.stage, self.step):
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("stage", "step"), [(1, 4), (2, 7)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, tiny_run: Path, number: signal.Signals, stage: int, step: int
) -> None:
    before = signal.getsignal(number)
    listener = Send(stage, step, number)
    with pytest.raises(StoppedError) as caught:
        train(tmp_path, TINY, listener=listener)
    assert caught.value.exit_code == 128 + number
    assert f"saved after step {step} of stage {stage}-" in caught.value.sentence
    assert f"stopped by {number.name}; the same command with `resume` continues" in caught.value.sentence
    assert any("once more ends the run at once" in str(value) for what, value in listener.heard if what == "notice")
    assert signal.getsignal(number) is before
    run = runs.unfinished(tmp_path / "runs", "tiny")
    assert run is not None
    assert (run / "checkpoints").glob(f"{stage}-*/checkpoint-{step}")
    train(tmp_path, TINY, resume=run)
    assert weights_digest(run) == weights_digest(tiny_run)


def test_a_second_signal_ends_it_at_once(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(StoppedError, match="stopped at once by SIGTERM"):
        train(tmp_path, TINY, STEPS, listener=Send(1, 5, signal.SIGINT, signal.SIGTERM))
    run = tmp_path / "runs" / "tiny-1"
    assert not (run / "checkpoints" / "1-joint" / "checkpoint-5").exists()
    train(tmp_path, TINY, STEPS, resume=run)
    assert weights_digest(run) == weights_digest(tiny_run)


def test_a_signal_in_the_last_step_of_a_stage_ends_the_run_between_stages(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(StoppedError, match="stage 1-joint is finished and saved; stopped by SIGTERM"):
        train(tmp_path, TINY, listener=Send(1, 10, signal.SIGTERM))
    run = tmp_path / "runs" / "tiny-1"
    train(tmp_path, TINY, resume=run)
    assert weights_digest(run) == weights_digest(tiny_run)


class SendEarly(Silence):
    """Sends SIGTERM when the first notice comes, before any step."""

    def notice(self, text: str) -> None:
        self.heard.append(("notice", text))
        if "were cut" in text:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_before_the_first_step_ends_the_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="stopped at once by SIGTERM") as caught:
        train(tmp_path, TINY.replace("max_length: 48", "max_length: 6"), listener=SendEarly())
    assert caught.value.exit_code == 143


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    """A program that trains in a thread of its own keeps its handlers."""
    found: list[Path] = []
    worker = threading.Thread(target=lambda: found.append(Path(train(tmp_path).run)))
    worker.start()
    worker.join(300)
    assert runs.is_finished(found[0])


def go_on(folder: str) -> None:
    """Begin the run in a folder, or resume it: what is killed."""
    runs_folder = Path(folder) / "runs"
    unfinished = runs.unfinished(runs_folder, "tiny") if runs_folder.is_dir() else None
    train(Path(folder), TINY, "training.save_steps=1", resume=unfinished)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_weight(tmp_path: Path, tiny_run: Path) -> None:
    """Each run is killed at a random moment, also in the middle of saves, and then resumed to its end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support", "dactcli.training.fit", "dactcli.evaluation.evaluate"])

    def start(folder: Path) -> multiprocessing.process.BaseProcess:
        folder.mkdir(exist_ok=True)
        process = context.Process(target=go_on, args=(str(folder),))
        process.start()
        return process

    seconds = 0.0
    for name in ("first", "whole"):  # the first also waits for the fork server to load torch
        began = time.perf_counter()
        whole = start(tmp_path / name)
        whole.join(300)
        seconds = time.perf_counter() - began
    assert weights_digest(tmp_path / "whole" / "runs" / "tiny-1") == weights_digest(tiny_run)
    chance, torn, kills, tries = random.Random(0), 0, 0, 0
    while kills < 20:
        tries += 1
        folder = tmp_path / str(tries)
        process = start(folder)
        began = time.perf_counter()
        process.join(chance.uniform(0.2, 0.95) * seconds)
        if not process.is_alive():
            seconds = min(seconds, time.perf_counter() - began)  # the machine was busier while the first one ran
            assert tries < 60, "the runs end before they can be killed"
            continue
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        if any(runs.is_finished(path) for path in (folder / "runs").glob("tiny-*")):
            continue  # it was through, and only its process was not
        kills += 1
        stages = list((folder / "runs" / "tiny-1" / "checkpoints").glob("*"))
        torn += any((stage / ".writing").exists() for stage in stages)
        steps = {stage.name: _newest(stage) for stage in stages}
        after = start(folder)
        after.join(300)
        assert after.exitcode == 0
        # a kill before the recipe was written leaves nothing to go on with, and another folder is begun
        (run,) = [path for path in (folder / "runs").glob("tiny-*") if runs.is_finished(path)]
        assert weights_digest(run) == weights_digest(tiny_run)
        _nothing_twice(run, steps)
    print(f"{torn} of 20 kills fell into a save")


def _newest(stage: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in stage.glob("checkpoint-*")), default=0)


def _nothing_twice(run: Path, steps: dict[str, int]) -> None:
    """The log has every logged step once: none lost, none told twice."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10] * 2
    assert all(step <= 10 for step in steps.values())
