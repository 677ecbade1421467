"""The loss against a plain re-computation from its formula, and who is trained by which part."""

from __future__ import annotations

import math

import pytest
import torch
from support import recursion

from dactcli.model.loss import dact_loss
from dactcli.recipe.settings import HaltingSettings

B, N, C = 5, 4, 3


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(B, N, C, dtype=torch.float64, requires_grad=True)
    s = torch.randn(B, N, dtype=torch.float64, requires_grad=True)
    return logits, s, torch.randint(0, C, (B,))


WEIGHTS = (0.5, 1.25, 3.0)


def plain(logits: torch.Tensor, s: torch.Tensor, labels: torch.Tensor, settings: HaltingSettings) -> float:
    """The loss, example by example and layer by layer."""
    y, h = logits.softmax(-1).tolist(), torch.sigmoid(s).tolist()
    total = 0.0
    for b, label in enumerate(labels.tolist()):
        heavy = settings.class_weights[label] if settings.class_weights else 1.0
        if settings.objective == "last":
            total -= heavy * math.log(y[b][-1][label])
            continue
        if settings.objective == "dact":
            a, p, rho = [0.0] * C, 1.0, 0.0
            for n in range(N):
                a = [p * y[b][n][c] + (1 - p) * a[c] for c in range(C)]
                p *= h[b][n]
                rho += h[b][n] if settings.ponder == "sum_h" else p
            charge = 1 - a[label] if settings.answer_loss == "error" else -math.log(a[label])
            assert settings.tau is not None
            total += heavy * charge + settings.tau * rho
        for n in range(N):
            weight = {"equal": 1 / N, "depth": (n + 1) / (N * (N + 1) / 2), "none": 0.0}[settings.layer_loss]
            total -= heavy * settings.layer_loss_weight * weight * math.log(y[b][n][label])
            if n < N - 1:
                cross = -sum(y[b][-1][c] * math.log(y[b][n][c]) for c in range(C))
                total += settings.distill * cross / (N - 1)
    return total / B


PAPER = HaltingSettings(tau=0.05, ponder="sum_h", answer_loss="nll")
SETTINGS = [
    HaltingSettings(objective="last"),
    HaltingSettings(objective="layers"),
    HaltingSettings(objective="layers", layer_loss="depth", layer_loss_weight=0.5, distill=0.7),
    PAPER,
    HaltingSettings(),
    PAPER.but(tau=0.3, ponder="sum_p", layer_loss="depth", detach=False),
    PAPER.but(tau=0.3, layer_loss="none", detach=False, distill=0.2),
    HaltingSettings(objective="last", class_weights=WEIGHTS),
    HaltingSettings(objective="layers", layer_loss="depth", distill=0.7, class_weights=WEIGHTS),
    PAPER.but(tau=0.3, class_weights=WEIGHTS),
    PAPER.but(tau=0.01, ponder="sum_p", answer_loss="error"),
    PAPER.but(tau=0.01, answer_loss="error", detach=False, class_weights=WEIGHTS),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_loss_is_what_the_formula_says(
    settings: HaltingSettings, case: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    logits, s, labels = case
    found = dact_loss(logits.log_softmax(-1), s, labels, settings)
    assert float(found.loss.detach()) == pytest.approx(plain(logits, s, labels, settings), abs=1e-9)
    a, _ = recursion(logits.softmax(-1), torch.sigmoid(s))
    if settings.objective == "dact":
        torch.testing.assert_close(found.answer.exp(), a[:, -1])


@pytest.mark.parametrize("detach", [True, False])
def test_detach_keeps_the_dact_loss_from_the_layers(
    detach: bool, case: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    logits, s, labels = case
    both = dact_loss(logits.log_softmax(-1), s, labels, PAPER.but(detach=detach)).loss
    layers = dact_loss(logits.log_softmax(-1), s, labels, HaltingSettings(objective="layers")).loss
    (trained,) = torch.autograd.grad(both, logits, retain_graph=True)
    (alone,) = torch.autograd.grad(layers, logits)
    assert torch.allclose(trained, alone) is detach
    assert torch.autograd.grad(both, s)[0].abs().sum() > 0


def test_regression_takes_squared_errors() -> None:
    y = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    s = torch.zeros(1, 2)
    found = dact_loss(y, s, torch.tensor([2.0]), PAPER.but(tau=0.1))
    # a_2 = 0.5 * 3 + 0.5 * 1 = 2, so the DACT part is the price of two open halting units
    assert found.loss.item() == pytest.approx(0.1 * 1.0 + (1 + 1) / 2)
    assert found.answer.item() == pytest.approx(2.0)
