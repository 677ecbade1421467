"""Invariants 1 and 5 of the mathematics: against a plain float64 re-computation, and finite at the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import recursion

from dactcli.halting import recursion as halting


def plain(y: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a [N, C], p [N] and w^(m) [N, N] of one example, by the definitions."""
    layers, classes = y.shape
    p, a, w = np.zeros(layers), np.zeros((layers, classes)), np.zeros((layers, layers))
    before, answer = 1.0, np.zeros(classes)
    for n in range(layers):
        answer = before * y[n] + (1 - before) * answer
        before = before * h[n]
        a[n], p[n] = answer, before
    for m in range(layers):
        for n in range(m + 1):
            w[m, n] = (p[n - 1] if n else 1.0) * math.prod(1 - p[k - 1] for k in range(n + 1, m + 1))
    return a, p, w


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """y [B, N, C] and h [B, N], with h exactly 0 and 1 among them."""
    batch, layers, classes = draw(st.integers(1, 3)), draw(st.integers(1, 24)), draw(st.integers(1, 10))
    unit = st.floats(0, 1, allow_subnormal=False)
    h = draw(hnp.arrays(float, (batch, layers), elements=st.one_of(unit, st.sampled_from([0.0, 1.0, 0.5, 1 - 1e-9]))))
    logits = draw(hnp.arrays(float, (batch, layers, classes), elements=st.floats(-30, 30)))
    y = np.exp(logits - logits.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True), h


@given(outputs())
def test_answers_and_weights_equal_the_definitions(case: tuple[np.ndarray, np.ndarray]) -> None:
    y, h = case
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        a, p = recursion(torch.tensor(y, dtype=dtype), torch.tensor(h, dtype=dtype))
        for row in range(len(y)):
            wanted_a, wanted_p, wanted_w = plain(y[row], h[row])
            np.testing.assert_allclose(a[row], wanted_a, atol=tolerance, rtol=0)
            np.testing.assert_allclose(p[row], wanted_p, atol=tolerance, rtol=0)
            assert (np.diff(np.concatenate([[1.0], p[row]])) <= 0).all()
            for m in range(y.shape[1]):
                w = halting.halting_weights(torch.tensor(h[row : row + 1, : m + 1], dtype=dtype))[0]
                np.testing.assert_allclose(w, wanted_w[m, : m + 1], atol=tolerance, rtol=0)
                assert float(w.sum()) == pytest.approx(1, abs=tolerance)


@given(outputs())
def test_the_logarithmic_answer_equals_the_recursion(case: tuple[np.ndarray, np.ndarray]) -> None:
    y, h = torch.tensor(case[0]), torch.tensor(case[1]).clamp(1e-12, 1 - 1e-12)
    a, p = recursion(y, h)
    s = torch.logit(h)
    torch.testing.assert_close(halting.log_answer(y.log(), s).exp(), a[:, -1], atol=1e-9, rtol=0)
    log_p, log_not_p = halting.log_remaining(s)
    torch.testing.assert_close(log_p.exp(), p, atol=1e-9, rtol=0)
    torch.testing.assert_close(log_not_p.exp(), 1 - p, atol=1e-9, rtol=0)
    torch.testing.assert_close(halting.log_halting_weights(s).exp(), halting.halting_weights(h), atol=1e-9, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 6, 24])
def test_gradients_are_finite_and_right_at_the_extremes(layers: int) -> None:
    torch.manual_seed(layers)
    s = torch.randn(8, layers, dtype=torch.float64)
    s[0], s[1], s[2, ::2], s[2, 1::2], s[3, ::2], s[3, 1::2] = 1e4, -1e4, 1e4, -1e4, -1e4, 1e4
    logits = torch.randn(8, layers, 3, dtype=torch.float64)
    logits[:4] *= 20
    s.requires_grad_()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda l, s: halting.log_answer(l.log_softmax(-1), s), (logits, s))
    for kind in ("sum_h", "sum_p"):
        assert torch.autograd.gradcheck(lambda s, kind=kind: halting.ponder_cost(s, kind), (s,))
    extreme = (logits.detach().float() * 1e3).requires_grad_()
    single = s.detach().float().requires_grad_()
    answer = halting.log_answer(extreme.log_softmax(-1), single)
    torch.autograd.backward(answer.sum())
    for value in (answer, extreme.grad, single.grad):
        assert value is not None
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("s", [[2.0, -1000.0, 1.0, 0.0], [8.0, -3000.0, -3000.0, 0.0], [-1e4, 1e4, -1e4, 1e4]])
def test_float32_stays_close_to_float64_for_logits_of_mixed_size(s: list[float]) -> None:
    single, double = (torch.tensor([s], dtype=dtype) for dtype in (torch.float32, torch.float64))
    weights = halting.log_halting_weights(single).exp()
    torch.testing.assert_close(weights.double(), halting.log_halting_weights(double).exp(), atol=1e-5, rtol=0)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert (halting.log_remaining(single)[1] <= 1e-6).all()


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_training_starts_with_every_layer_in_use(layers: int) -> None:
    h = torch.sigmoid(torch.tensor(halting.start_bias(layers), dtype=torch.float64))
    assert float(h**layers) == pytest.approx(0.5)


def test_ponder_costs() -> None:
    s = torch.logit(torch.tensor([[0.5, 0.25]], dtype=torch.float64))
    assert halting.ponder_cost(s, "sum_h").tolist() == pytest.approx([0.75])
    assert halting.ponder_cost(s, "sum_p").tolist() == pytest.approx([0.5 + 0.125])
