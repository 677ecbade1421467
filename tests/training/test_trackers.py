"""Trackers: TensorBoard by default, others by transformers' own callbacks, none by an empty list."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TINY, Interrupt, dact, train
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from dactcli.errors import RecipeError
from dactcli.training.trackers import check_trackers

SHORT = "training.max_steps=2"
ABSENT = "clearml"
heard: list[str] = []


class Remembers(TrainerCallback):  # type: ignore[misc]
    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        heard.append("begin")

    def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
        heard.extend(name for name in logs if name == "loss")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker of another name than those that are installed."""
    heard.clear()
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", Remembers)
    return "mlflow"


def test_a_named_tracker_hears_every_stage_beside_tensorboard(tracker: str, tmp_path: Path) -> None:
    run = Path(train(tmp_path, TINY, SHORT, f"training.report_to=[tensorboard, {tracker}]").run)
    assert heard == ["begin", "loss"] * 2
    assert len(list((run / "tensorboard").rglob("events*"))) == 2


def test_an_empty_list_reports_to_nobody(tracker: str, tmp_path: Path) -> None:
    run = Path(train(tmp_path, TINY, SHORT, "training.report_to=[]").run)
    assert not heard
    assert not (run / "tensorboard").exists()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("[wandbb]", "training.report_to: 'wandbb' is unknown; did you mean wandb?"),
        ("[mlflow, mlflow]", "training.report_to: names mlflow twice; keep one of them"),
        pytest.param(
            f"[{ABSENT}]",
            "training.report_to: ClearMLCallback requires 'clearml' to be installed. Run `pip install clearml`; "
            "or leave clearml out of it",
            marks=pytest.mark.skipif(importlib.util.find_spec(ABSENT) is not None, reason="it is installed here"),
        ),
    ],
)
def test_what_cannot_be_reported_to_is_refused_before_training(
    tracker: str, tmp_path: Path, names: str, sentence: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        train(tmp_path, TINY, f"training.report_to={names}")
    assert caught.value.sentence == sentence
    assert not (tmp_path / "runs" / "tiny-1").exists()
    refused = dact("validate", tmp_path / "recipe.yaml", "--set", f"training.report_to={names}")
    assert refused.exit_code == 2
    assert sentence in refused.stderr


def test_a_tracker_that_is_missing_leaves_nothing_that_fails_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its callback fails when it is made, and would fail again when what was made of it is thrown away."""

    class Half(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            raise RuntimeError("Half requires half to be installed. Run `pip install half`.")

        def __del__(self) -> None:
            raise AttributeError("_initialized")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", Half)
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(RecipeError, match="Half requires half to be installed"):
        check_trackers(["mlflow"])
    gc.collect()
    assert ignored == []


@pytest.mark.parametrize("save", ["training.save_steps=3", "training.save_steps=100"])
def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path: Path, save: str) -> None:
    """With a checkpoint after step 6 of stage 2, and with none in it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TINY, save, listener=Interrupt(2, 9))
    run = tmp_path / "runs" / "tiny-1"
    train(tmp_path, TINY, save, resume=run)
    for stage in ("1-joint", "2-units"):
        events = EventAccumulator(str(run / "tensorboard" / stage))
        events.Reload()
        scalars = events.Scalars("train/loss")
        assert [scalar.step for scalar in scalars] == [2, 4, 6, 8, 10]
