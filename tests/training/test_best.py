"""The best epoch: what is kept, when a stage ends early, and that a kill changes neither."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from support import TINY, Silence

from dactcli.errors import RecipeError
from dactcli.evaluation.evaluate import validator
from dactcli.listening import Listener
from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.results import TrainResult
from dactcli.runs import folders as runs
from dactcli.storage import faults
from dactcli.training.fit import fit
from dactcli.training.plan import check_plan

ONE = TINY.replace("    - {name: units, epochs: 1, unit_learning_rate: 1e-2}\n", "").replace(
    "{name: joint, tau: null, epochs: 1}", "{name: joint, tau: null, epochs: 4}"
)
TWO = TINY.replace("{name: joint, tau: null, epochs: 1}", "{name: joint, tau: null, epochs: 4}")
EPOCH = 10  # steps


class Script(Silence):
    """Gives every epoch of the first stage a metric, and remembers the weights it judged; ends at a step, like a kill.

    Args:
        metrics: By epoch.
        kill: The step of the first stage at which it ends; at `judging`, after its evaluation is begun.
    """

    def __init__(self, *metrics: float | None, kill: int = -1, judging: bool = False) -> None:
        super().__init__()
        self.metrics, self.kill, self.judging = metrics, kill, judging
        self.stage, self.step = 0, 0
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        self.stage = number

    def stepped(self, step: int) -> None:
        self.step = step
        if (self.stage, step, self.judging) == (1, self.kill, False):
            raise KeyboardInterrupt

    def judge(self, evaluate: Any) -> Any:
        def judged(model: Any, *rest: Any) -> Any:
            result = evaluate(model, *rest)
            if self.stage != 1 or "full" not in result.rules:
                return result
            if self.step == self.kill:
                raise KeyboardInterrupt
            now = {name: value.clone() for name, value in model.state_dict().items()}
            self.weights.setdefault(self.step, now)  # the finished model is evaluated again
            metric = self.metrics[-(-self.step // EPOCH) - 1]
            return replace(result, rules={**result.rules, "full": replace(result.rules["full"], metric=metric)})

        return judged


def trained(folder: Path, text: str, script: Script, *overrides: str, resume: bool = False) -> TrainResult:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(text)
    recipe = load_recipe(folder / "recipe.yaml", [f"output.dir={folder / 'runs'}", *overrides])
    run = runs.unfinished(folder / "runs", "tiny") if resume else None
    assert (run is not None) == resume
    judge = script.judge(validator(recipe))
    return fit(recipe, evaluate=judge, listener=cast(Listener, script), device=torch.device("cpu"), resume=run)


def has(run: str, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in load_file(Path(run) / "model.safetensors").items())


def test_the_weights_after_the_best_epoch_are_kept(tmp_path: Path) -> None:
    script = Script(0.5, 0.8, 0.8, 0.6)
    result = trained(tmp_path, ONE, script)
    assert has(result.run, script.weights[2 * EPOCH])
    assert not has(result.run, script.weights[4 * EPOCH])
    assert result.kept is not None
    assert (result.kept.stage, result.kept.epoch, result.kept.step) == ("1-joint", 2.0, 2 * EPOCH)
    assert result.kept.metric == 0.8
    assert result.steps == 4 * EPOCH
    document = json.loads((Path(result.run) / "summary.json").read_text())
    assert document["kept"] == {"stage": "1-joint", "epoch": 2.0, "step": 20, "metric": 0.8}
    assert TrainResult.from_json(document).kept == result.kept
    lines = [json.loads(line) for line in (Path(result.run) / "metrics.jsonl").read_text().splitlines()]
    assert [line["best"] for line in lines if "evaluation" in line] == [True, True, False, False]
    assert [value for what, value in script.heard if what == "best_epoch"] == [1.0, 2.0]


def test_the_last_epoch_is_kept_where_the_recipe_says_so_or_it_is_the_best(tmp_path: Path) -> None:
    last = trained(tmp_path / "last", ONE, script := Script(0.5, 0.8, 0.8, 0.6), "training.keep=last")
    assert last.kept is None
    assert has(last.run, script.weights[4 * EPOCH] if script.weights else {})
    best = trained(tmp_path / "best", ONE, Script(0.5, 0.6, 0.7, 0.8))
    assert best.kept is not None
    assert best.kept.epoch == 4
    assert has(best.run, load_file(Path(last.run) / "model.safetensors"))


def test_an_undefined_metric_is_the_worst(tmp_path: Path) -> None:
    result = trained(tmp_path, ONE, Script(None, -0.2, None, -0.3))
    assert result.kept is not None
    assert result.kept.metric == -0.2


def test_patience_ends_the_stage(tmp_path: Path) -> None:
    script = Script(0.8, 0.5, 0.6, 0.9)
    result = trained(tmp_path, ONE, script, "training.patience=2")
    assert result.steps == 3 * EPOCH
    assert has(result.run, script.weights[EPOCH])


def test_full_depth_decides_where_the_recipe_does_not_evaluate_it(tmp_path: Path) -> None:
    result = trained(tmp_path, ONE, Script(0.5, 0.9, 0.6, 0.7), "evaluation.rules=['max_prob:0.9']", "dact.tau=null")
    assert result.kept is not None
    assert result.kept.metric == 0.9
    assert list(result.evaluation["validation"].rules) == ["max_prob:0.9"]


def test_plain_fine_tuning_keeps_its_best_epoch(tmp_path: Path) -> None:
    text = ONE.replace("dact: {tau: 0.05, ponder: sum_h, answer_loss: nll}", "dact: null").replace("tau: null, ", "")
    script = Script(0.5, 0.9, 0.6, 0.7)
    result = trained(tmp_path, text, script)
    assert has(result.run, script.weights[2 * EPOCH])


def test_the_units_are_trained_on_the_kept_encoder_to_their_end(tmp_path: Path) -> None:
    script = Script(0.9, 0.5, 0.6, 0.7)
    result = trained(tmp_path, TWO, script, "training.patience=3")
    assert result.steps == 5 * EPOCH
    assert result.kept is not None
    assert result.kept.stage == "1-joint"
    after = load_file(Path(result.run) / "model.safetensors")
    encoder = [name for name in after if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(after[name], script.weights[EPOCH][name]) for name in encoder)


def test_units_alone_keep_their_last_epoch(tmp_path: Path) -> None:
    text = TINY.replace("    - {name: joint, tau: null, epochs: 1}\n", "")
    assert trained(tmp_path, text, Script(0.5)).kept is None


@pytest.mark.parametrize("steps", ["null", "5", "3"])
@pytest.mark.parametrize(("kill", "judging"), [(25, False), (30, False), (30, True), (20, True), (33, False)])
def test_a_kill_changes_neither_the_kept_epoch_nor_the_end(
    tmp_path: Path, steps: str, kill: int, judging: bool
) -> None:
    """Best is epoch 1, whose checkpoint is long gone; also with a kill between a step and its evaluation."""
    metrics, save = (0.8, 0.5, 0.6, 0.7), f"training.save_steps={steps}"
    whole = trained(tmp_path / "whole", ONE, Script(*metrics), save)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", ONE, Script(*metrics, kill=kill, judging=judging), save)
    resumed = trained(tmp_path / "killed", ONE, Script(*metrics), save, resume=True)
    assert resumed.kept == whole.kept
    assert has(resumed.run, load_file(Path(whole.run) / "model.safetensors"))
    lines = [json.loads(line) for line in (Path(resumed.run) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "evaluation" in line] == [10, 20, 30, 40]


def test_a_kill_where_patience_ran_out_trains_no_further_epoch(tmp_path: Path) -> None:
    overrides = ["training.patience=1", "training.save_steps=10"]
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, ONE, Script(0.8, 0.5, 0.9, 0.9, kill=20, judging=True), *overrides)
    resumed = trained(tmp_path, ONE, script := Script(0.8, 0.5, 0.9, 0.9), *overrides, resume=True)
    assert resumed.kept is not None
    assert (resumed.kept.epoch, resumed.steps) == (1.0, 2 * EPOCH)
    assert set(script.weights) == {2 * EPOCH}


def test_the_best_of_a_finished_stage_is_known_after_a_kill_in_the_next(tmp_path: Path) -> None:
    class Later(Script):
        def stepped(self, step: int) -> None:
            if (self.stage, step) == (2, 4):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, TINY, Later(0.8))
    resumed = trained(tmp_path, TINY, Script(0.8), resume=True)
    assert resumed.kept is not None
    assert (resumed.kept.stage, resumed.kept.epoch) == ("1-joint", 1.0)


def test_damaged_best_weights_are_named_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, ONE, Script(0.8, 0.5, 0.6, 0.7, kill=25))
    folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint" / f"best-{EPOCH}"
    assert not faults(folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    resumed = trained(tmp_path, ONE, script := Script(0.8, 0.5, 0.6, 0.7), resume=True)
    notices = [str(value) for what, value in script.heard if what == "notice"]
    assert any("best-10/model.safetensors is damaged; the best epoch is chosen among" in text for text in notices)
    assert resumed.kept is not None
    assert resumed.kept.epoch == 4


IN_STEPS = "model.halting_inputs=features"
TUNED_FIRST = "training.stages=[{name: encoder, epochs: 1}, {name: units, epochs: 1}]"
PRICED = "training.stages=[{name: joint, epochs: 2, tau: 0.01}]"
AFTERWARDS = ["model.halting_inputs=answer", "dact.detach=true"]  # the price changes nothing in the steps


@pytest.mark.parametrize(
    ("overrides", "stage"),
    [
        ([], 1),
        ([PRICED, *AFTERWARDS], 1),
        ([PRICED, *AFTERWARDS, IN_STEPS], None),
        ([PRICED, *AFTERWARDS, "dact.detach=false"], None),
        ([PRICED, IN_STEPS, "training.keep=best"], 1),
        ([TUNED_FIRST, IN_STEPS], 1),  # its steps know no price
        (["dact.tau=null", IN_STEPS], 1),
        (["training.keep=last"], None),
        (["training.stages=[{name: units, epochs: 1}]"], None),
    ],
)
def test_the_best_epoch_is_kept_unless_the_halting_is_trained_with_it(
    tmp_path: Path, overrides: list[str], stage: int | None
) -> None:
    (tmp_path / "recipe.yaml").write_text(ONE)
    assert load_recipe(tmp_path / "recipe.yaml", overrides).best_epoch_stage == stage


def test_halting_that_is_trained_with_the_layers_has_the_weights_of_the_last_epoch(tmp_path: Path) -> None:
    together = trained(tmp_path / "together", ONE, Script(0.8, 0.5), PRICED, IN_STEPS)
    last = trained(tmp_path / "last", ONE, Script(0.8, 0.5), PRICED, IN_STEPS, "training.keep=last")
    best = trained(tmp_path / "best", ONE, script := Script(0.8, 0.5), PRICED, IN_STEPS, "training.keep=best")
    assert together.kept is None
    assert has(together.run, load_file(Path(last.run) / "model.safetensors"))
    assert best.kept is not None
    assert has(best.run, script.weights[EPOCH])
    assert not has(together.run, script.weights[EPOCH])


def test_the_recipe_of_a_run_says_which_epoch_was_kept(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(ONE)
    for overrides, keep in (([], "best"), ([PRICED, IN_STEPS], "last")):
        loaded = load_recipe(tmp_path / "recipe.yaml", overrides)
        assert loaded.training.keep == keep
        (tmp_path / "dumped.yaml").write_text(dump_recipe(loaded))
        assert load_recipe(tmp_path / "dumped.yaml") == loaded


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["training.keep=last"], "training.patience requires training.keep: best; remove one of the two"),
        (
            [PRICED, IN_STEPS],
            "training.patience: requires training.keep: best, and the last epoch is kept; set training.keep: best",
        ),
        (["training.stages=[{name: units, epochs: 1}]"], "training.patience: needs a stage that trains the encoder"),
    ],
)
def test_patience_requires_the_best_epoch(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        trained(tmp_path, ONE, Script(0.5), "training.patience=1", *overrides)


def test_a_regression_keeps_the_last_epoch() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "stsb.yaml", ["training.patience=1"])
    assert recipe.training.keep == "last"
    with pytest.raises(RecipeError, match="training.patience: requires training.keep: best"):
        check_plan(recipe)
    check_plan(load_recipe(Path(__file__).parents[2] / "recipes" / "stsb.yaml"))


def test_a_run_whose_patience_was_idle_still_opens(tmp_path: Path) -> None:
    """An earlier version took such recipes and did not heed the key."""
    (tmp_path / "recipe.yaml").write_text(TINY.replace("    - {name: joint, tau: null, epochs: 1}\n", ""))
    loaded = load_recipe(tmp_path / "recipe.yaml", ["training.patience=1", "training.keep=best"])
    (tmp_path / "dumped.yaml").write_text(dump_recipe(loaded))
    assert load_recipe(tmp_path / "dumped.yaml").training.patience == 1
