"""A model of label sets: its loss, its answers, what it refuses, and the thresholds of its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from support import random_batch, recursion, small_model
from torch.nn import functional

from dactcli.data.batches import Encoded
from dactcli.errors import UsageError
from dactcli.halting.decision import decide
from dactcli.halting.label_sets import LabelSets
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.engine import run_adaptive
from dactcli.model.loss import charge_for, dact_loss
from dactcli.recipe.settings import HaltingSettings
from dactcli.training.label_thresholds import best_threshold, choose_label_thresholds

MULTILABEL = "multi_label_classification"
LENGTHS = [4, 15, 6, 9, 15, 12]


def model_of_sets(**settings: Any) -> DactForSequenceClassification:
    made: DactForSequenceClassification = small_model(labels=3, problem_type=MULTILABEL, **settings)
    return made


def sets(rows: int = 6) -> torch.Tensor:
    return (torch.rand(rows, 3, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@pytest.mark.parametrize("answer_loss", ["nll", "error"])
def test_the_loss_is_the_mean_over_the_labels(answer_loss: Literal["nll", "error"]) -> None:
    torch.manual_seed(0)
    logits, s = torch.randn(5, 4, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    labels, answers = sets(5).double(), LabelSets()
    config = HaltingSettings(tau=0.3, answer_loss=answer_loss, detach=False, distill=0.5)
    found = dact_loss(answers.logs_of_logits(logits), s, labels, config, answers)
    y, h = logits.sigmoid(), s.sigmoid()
    a = recursion(y, h)[0][:, -1]
    nll = functional.binary_cross_entropy(a, labels)
    error = (labels * (1 - a) + (1 - labels) * a).mean()
    layers = functional.binary_cross_entropy(y, labels.unsqueeze(1).expand_as(y))
    taught = functional.binary_cross_entropy(y[:, :-1], y[:, -1:].expand_as(y[:, :-1]))
    wanted = (nll if answer_loss == "nll" else error) + 0.3 * h.cumprod(1).sum(1).mean() + layers + 0.5 * taught
    torch.testing.assert_close(found.loss, wanted)
    torch.testing.assert_close(answers.logits(found.answer).sigmoid(), a)


def test_log_forms_are_finite_for_huge_logits_and_have_the_right_gradients() -> None:
    answers, labels = LabelSets(), torch.tensor([[1.0, 0.0]])
    huge = torch.tensor([[[1e4, 1e4], [-1e4, -1e4]]], requires_grad=True)
    s = torch.tensor([[1e4, -1e4]], requires_grad=True)
    found = dact_loss(answers.logs_of_logits(huge), s, labels, HaltingSettings(detach=False), answers)
    found.loss.backward()  # type: ignore[no-untyped-call]
    for value in (found.loss, found.answer, huge.grad, s.grad):
        assert value is not None
        assert torch.isfinite(value).all()
    logits, s = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, dtype=torch.float64)
    known, config = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), HaltingSettings(detach=False, answer_loss="nll")
    assert torch.autograd.gradcheck(
        lambda given: dact_loss(answers.logs_of_logits(given), s, known, config, answers).loss, logits
    )


def test_forward_gives_log_odds_that_a_sigmoid_turns_into_the_mixture() -> None:
    model, batch = model_of_sets(), random_batch(small_model(), LENGTHS)
    y, h, _ = model.layer_outputs(**batch)
    wanted = decide(model.rule("full"), y, h).answer
    out = model(**batch, labels=sets())
    torch.testing.assert_close(out.logits.sigmoid(), wanted)
    assert out.loss.isfinite()
    early = model(**batch, labels=sets(), rule="exact")
    assert torch.equal(early.logits >= 0, out.logits >= 0)
    assert (early.exit_layer < 4).any()
    torch.testing.assert_close(early.loss, functional.binary_cross_entropy_with_logits(early.logits, sets()))
    whole = model(**batch, labels=sets().long())
    torch.testing.assert_close(whole.loss, out.loss)


@pytest.mark.parametrize("rule", ["exact", "paper", "confidence:0.3", "max_prob:0.3", "entropy:0.5", "patience:2"])
def test_the_engine_decides_as_the_kept_outputs_do(rule: str) -> None:
    model = model_of_sets(label_thresholds=[0.3, 0.6, 0.5])
    batch = random_batch(model, LENGTHS)
    y, h, _ = model.layer_outputs(**batch)
    chosen = model.rule(rule)
    live, kept = run_adaptive(model, chosen, batch), decide(chosen, y, h)
    assert live.exit_layer.tolist() == kept.exit_layer.tolist()
    torch.testing.assert_close(live.answer, kept.answer, atol=1e-5, rtol=1e-4)


def test_a_rule_made_for_classes_halts_label_sets_soundly() -> None:
    """A rule object that knows nothing of the model is bound to its kind of answers."""
    from dactcli.halting.rules import Exact

    model = model_of_sets()
    batch = random_batch(model, LENGTHS)
    own, bare = model(**batch, rule="exact"), model(**batch, rule=Exact())
    assert own.exit_layer.tolist() == bare.exit_layer.tolist()


def test_the_halting_unit_sees_the_least_sure_label() -> None:
    answers = LabelSets((0.5, 0.2))
    logits = torch.tensor([[3.0, -2.0], [0.1, 5.0]])
    far = torch.tensor(0.2).logit().abs()
    torch.testing.assert_close(answers.sureness(logits), torch.stack([2.0 - far, torch.tensor(0.1)]))
    model = model_of_sets(halting_inputs="answer", label_thresholds=0.2)
    batch = random_batch(model, LENGTHS)
    before = model(**batch).halting
    model.config.label_thresholds = 0.9
    assert not torch.allclose(before, model(**batch).halting)


def test_the_certainty_head_learns_whether_the_whole_set_is_right() -> None:
    answers = LabelSets()
    logs = answers.logs_of_logits(torch.tensor([[[2.0, -2.0], [2.0, 2.0]]]))
    assert answers.is_right(logs, torch.tensor([[1.0, 0.0]])).tolist() == [[1.0, 0.0]]
    assert model_of_sets(certainty=True)(**random_batch(small_model(), LENGTHS), labels=sets()).loss.isfinite()


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (torch.tensor([0, 1, 2, 0, 1, 2]), "do not fit a model of label sets; give 0 or 1 for each label .B, 3."),
        (torch.full((6, 3), 2.0), "a label is neither 0 nor 1"),
        (torch.full((6, 3), torch.nan), "a label is neither 0 nor 1"),
    ],
)
def test_labels_of_another_kind_are_refused(labels: torch.Tensor, fault: str) -> None:
    model = model_of_sets()
    with pytest.raises(UsageError, match=fault):
        model(**random_batch(model, LENGTHS), labels=labels)


def test_a_saved_model_keeps_its_kind_and_thresholds(tmp_path: Path) -> None:
    model = model_of_sets(label_thresholds=[0.3, 0.6, 0.5])
    model.save_pretrained(tmp_path)
    again = DactForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.answers == LabelSets((0.3, 0.6, 0.5))
    batch = random_batch(model, LENGTHS)
    torch.testing.assert_close(again(**batch).logits, model(**batch).logits)


def test_the_best_threshold_is_that_of_a_search() -> None:
    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.random(200), 2), rng.random(200) < 0.3
    scores[labels] = np.clip(scores[labels] + 0.3, 0, 1)
    found = best_threshold(scores, labels)
    best = max(f1_score(labels, scores >= t) for t in np.unique(scores))
    assert f1_score(labels, scores >= found) == pytest.approx(best)
    assert best_threshold(scores, np.zeros(200, dtype=bool)) == 0.5
    assert 0 < best_threshold(np.zeros(3), np.ones(3, dtype=bool)) < 1
    assert 0 < best_threshold(np.ones(3), np.ones(3, dtype=bool)) < 1


@pytest.mark.parametrize("wish", ["one", "per_label", 0.3])
def test_thresholds_are_chosen_on_the_full_depth_answer(wish: Any, tiny_run: Path) -> None:
    from dactcli.runs.load import load_run

    model, tokenizer = model_of_sets(), load_run(tiny_run).tokenizer
    rng = np.random.default_rng(0)
    rows = [[int(token) for token in rng.integers(5, 120, 9)] for _ in range(60)]
    answers = model(torch.tensor(rows)).logits.sigmoid().detach().numpy()
    truth = answers > np.array([np.median(answers[:, 0]), np.median(answers[:, 1]), 2.0])  # the last is never there
    encoded = Encoded({"input_ids": rows}, [np.flatnonzero(row).tolist() for row in truth], [])
    chosen = choose_label_thresholds(model, tokenizer, encoded, wish, batch_size=16)
    assert model.config.label_thresholds == chosen
    decided = model.answers.decide(torch.tensor(answers)).numpy()
    if wish == 0.3:
        assert chosen == 0.3
    elif wish == "one":
        best = max(f1_score(truth, answers >= t, average="micro", zero_division=0) for t in np.unique(answers))
        assert f1_score(truth, decided, average="micro") == pytest.approx(best)
    else:
        assert (decided[:, :2] == truth[:, :2]).all()
        assert isinstance(chosen, list)
        assert chosen[2] == best_threshold(answers.ravel().astype(float), truth.ravel())


def test_soft_targets_have_both_costs_in_proportion() -> None:
    answers, right = LabelSets(), torch.tensor([[-2.0, -0.1]])
    charge = charge_for(right, torch.tensor([[0.25]]), HaltingSettings(answer_loss="nll"), answers)
    assert charge.item() == pytest.approx(0.75 * 2.0 + 0.25 * 0.1)
