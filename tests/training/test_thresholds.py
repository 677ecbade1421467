"""Halting thresholds learned on validation: what they come to, who is trained by it, and what a run makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import TINY, Interrupt, Silence, train

from dactcli.data.batches import Encoded
from dactcli.errors import RecipeError
from dactcli.halting.answers import CLASSES
from dactcli.halting.decision import decide
from dactcli.model.heads import SLOPE
from dactcli.model.loss import charge_for
from dactcli.recipe.load import load_recipe
from dactcli.recipe.settings import HaltingSettings
from dactcli.runs import folders as runs
from dactcli.runs.load import load_run
from dactcli.training.plan import describe_stages
from dactcli.training.stages import final_objective, halting_loss, resolve_stages
from dactcli.training.thresholds import _descend, fit_thresholds, steps_in_all

DEFAULT = TINY.replace(
    "  halting_inputs: features  # as the papers have it, so that there are halting units to train in a stage\n", ""
).replace("dact: {tau: 0.05, ponder: sum_h, answer_loss: nll}\n", "")
SETTINGS = HaltingSettings(tau=0.01, ponder="sum_p", answer_loss="error")


def descend(right: torch.Tensor, sure: torch.Tensor, *, tau: float = 0.01) -> torch.Tensor:
    """The thresholds [U], in log odds."""
    settings = HaltingSettings(tau=tau, ponder="sum_p", answer_loss="error")
    labels = torch.zeros(len(right), dtype=torch.long)

    def charge(right: torch.Tensor) -> torch.Tensor:
        return charge_for(right, labels, settings, CLASSES)

    loss, bias = _descend(right.unsqueeze(-1), sure, charge, settings, 2.0, stepped=lambda: None)
    assert loss < 1
    return bias / SLOPE


def answers(right: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """log y_n[label] of answers with these log odds, right or wrong."""
    return torch.where(right, torch.nn.functional.logsigmoid(sure), torch.nn.functional.logsigmoid(-sure))


def test_a_threshold_comes_to_stand_between_the_answers_that_are_right_and_those_that_are_not() -> None:
    sure = torch.linspace(0, 6, 200)
    first, last = answers(sure > 3, sure), answers(torch.ones(200, dtype=torch.bool), torch.full((200,), 4.0))
    (threshold, _) = descend(torch.stack([first, last], 1), torch.stack([sure, torch.full((200,), 4.0)], 1)).tolist()
    assert 3 < threshold < 4.5  # an answer that is surer than that has nothing to gain from the last layer


def test_a_layer_that_is_dear_or_useless_is_not_run() -> None:
    sure = torch.full((100, 2), 2.0)
    alike = answers(torch.ones(100, 2, dtype=torch.bool), sure)
    assert descend(alike, sure)[0] < 1.5  # the second layer knows no better than the first
    better = alike.clone()
    better[:50, 0] = torch.nn.functional.logsigmoid(torch.tensor(-2.0))
    assert descend(better, sure, tau=0.01)[0] > 2.5  # a wrong answer in two: worth a layer
    assert descend(better, sure, tau=0.9)[0] < 1.5  # not at any price


def test_only_the_halting_is_trained(tmp_path: Path) -> None:
    run = load_run(Path(train(tmp_path, DEFAULT, "dact.tau=null").run))
    model = run.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    ids = [[2, *torch.randint(5, 40, (6,), generator=generator).tolist(), 3] for _ in range(60)]
    encoded = Encoded({"input_ids": ids}, [number % 2 for number in range(60)], [])
    heard: list[int] = []
    fit_thresholds(model, run.tokenizer, encoded, SETTINGS, batch_size=16, stepped=heard.append)
    assert heard == list(range(1, steps_in_all() + 1))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {"units.halting_bias", "units.halting_weight"}
    assert "units.halting_bias" in changed
    assert (model.units.halting_weight == -SLOPE).all()


def weights(run: str) -> Any:
    return load_file(Path(run) / "model.safetensors")


def test_a_run_learns_its_layers_first_and_when_to_stop_at_last(tmp_path: Path) -> None:
    listener = Silence()
    result = train(tmp_path, DEFAULT, listener=listener)
    assert [value for name, value in listener.heard if name == "stage_started"] == ["joint", "units", "halting"]
    assert list(result.evaluation["validation"].rules) == ["full", "paper", "exact"]
    run = load_run(Path(result.run))
    config = run.model.config
    assert (config.objective, config.rule, config.halting.tau, config.halting_inputs) == (
        "dact",
        "exact",
        0.02,
        "answer",
    )
    assert (config.halting.answer_loss, config.halting.ponder) == ("error", "sum_p")
    # the layers are those of a training without the DACT loss
    plain = train(tmp_path, DEFAULT, "dact.tau=null")
    alone, own = weights(plain.run), weights(result.run)
    assert {name for name in own if not torch.equal(own[name], alone[name])} == {"units.halting_bias"}
    # the final figures are of other thresholds than the last epoch's, and the result says so
    assert (result.halting_fitted, plain.halting_fitted) == (True, False)
    assert json.loads((Path(result.run) / "summary.json").read_text())["halting_fitted"] is True
    judged = result.evaluation["validation"]
    assert set(judged.references) == {"majority", "last_layer"}
    assert plain.evaluation["validation"].rules["full"].metric == judged.references["last_layer"].metric


def test_a_resumed_run_learns_the_same_thresholds(tmp_path: Path) -> None:
    whole = weights(train(tmp_path, DEFAULT, "output.name=whole").run)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, DEFAULT, listener=Interrupt(2, 4))
    unfinished = runs.unfinished(tmp_path / "runs", "tiny")
    again = weights(train(tmp_path, DEFAULT, resume=unfinished).run)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_exact_keeps_the_class_of_a_run_whose_halting_sees_answers(tmp_path: Path) -> None:
    model = load_run(Path(train(tmp_path, DEFAULT).run)).model.eval()
    ids = torch.randint(5, 40, (64, 9), generator=torch.Generator().manual_seed(0))
    y, h, _ = model.layer_outputs(ids)
    exact, full = (decide(model.rule(rule), y, h) for rule in ("exact", "full"))
    assert torch.equal(exact.answer.argmax(-1), full.answer.argmax(-1))
    adaptive = model(ids, rule="exact")
    assert torch.equal(adaptive.logits.argmax(-1), full.answer.argmax(-1))


def recipe_of(tmp_path: Path, text: str, *sets: str) -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, list(sets))


def test_what_the_finished_model_can_be_asked_for(tmp_path: Path) -> None:
    objectives = {"": "dact", "dact.tau=null": "layers", "dact=null": "last", "model.halting_inputs=features": "dact"}
    for change, wanted in objectives.items():
        assert final_objective(recipe_of(tmp_path, DEFAULT, *[change] * bool(change))) == wanted, change


def test_layers_that_the_dact_loss_trains_too_have_it_in_the_stages(tmp_path: Path) -> None:
    stages = resolve_stages(recipe_of(tmp_path, DEFAULT, "dact.detach=false"))
    assert [stage.loss.objective for stage in stages] == ["layers", "dact"]
    assert halting_loss(stages).tau == 0.02


def test_the_plan_tells_of_it(tmp_path: Path) -> None:
    lines = describe_stages(recipe_of(tmp_path, DEFAULT, "evaluation.risk=null"))
    assert lines[-1] == (
        "finally: learns the layers' halting thresholds on validation; DACT loss with tau 0.02 (sum_p, error)"
    )
    assert not any("at last" in line for line in describe_stages(recipe_of(tmp_path, TINY)))


REGRESSION = """
task: {name: likeness, metric: pearson, range: [0, 5]}
data: {source: files, train: a.csv, validation: 0.2}
model: {encoder: {}}
"""


def test_a_regression_has_features_to_halt_by(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, REGRESSION)
    assert (recipe.model.halting_inputs, recipe.dact.tau, recipe.fits_halting) == ("features", 0.05, False)
    assert recipe_of(tmp_path, REGRESSION, "dact.tau=0.2").dact.tau == 0.2
    with pytest.raises(RecipeError, match=r"model\.halting_inputs: is answer, .*; set it to features, or leave it out"):
        recipe_of(tmp_path, REGRESSION, "model.halting_inputs=answer")
