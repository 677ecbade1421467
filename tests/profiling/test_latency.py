"""Profiling: paired ratios, percentiles, the stock model it compares with, and the same work in every way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import FAMILIES, random_batch, small_model

from dactcli.model.rules import ForcedDepths, make_rule
from dactcli.profiling import latency


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_stock_classifier_runs_the_same_encoder(name: str) -> None:
    model = small_model(name)
    stock = latency.stock_classifier(model)
    batch = random_batch(model, [4, 9, 6])
    theirs = stock.base_model(**batch).last_hidden_state
    assert torch.equal(theirs, model.encoder(**batch).last_hidden_state)
    assert stock(**batch).logits.shape == (3, 3)


def measured(**options: Any) -> Any:
    model = small_model(layers=3)
    batches = [random_batch(model, [4, 9], seed=1), random_batch(model, [6], seed=2)]
    ways = latency.make_ways(model, make_rule("exact"))
    settings: dict[str, Any] = {"warmup": 1, "repeats": 4, "sequence_length": None, **options}
    return latency.measure(ways, batches, device=torch.device("cpu"), layers=3, rule="exact", **settings)


def test_all_ways_are_measured_on_all_batches_in_every_round() -> None:
    seen: list[tuple[int, int]] = []
    case = measured(progress=lambda done, total: seen.append((done, total)))
    for way in (case.stock, case.full, case.adaptive):
        assert len(way.samples_ms) == 4 * 2
        assert 0 < way.latency_ms_p50 <= way.latency_ms_p90 <= way.latency_ms_p99
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert sum(case.adaptive.depths) == 3
    assert case.stock.depths is None
    ratio = case.time_ratio_to_stock
    assert ratio.low <= ratio.median <= ratio.high


def test_the_order_of_the_ways_rotates() -> None:
    model = small_model(layers=2)
    order: list[str] = []

    def way(name: str) -> Any:
        return lambda batch: order.append(name)

    ways = latency.Ways(way("stock"), way("full"), way("adaptive"))
    latency.measure(
        ways,
        [random_batch(model, [4])],
        device=torch.device("cpu"),
        layers=2,
        rule="full",
        sequence_length=None,
        warmup=0,
        repeats=3,
    )
    assert [order[start] for start in (0, 3, 6)] == ["stock", "full", "adaptive"]
    assert all(sorted(order[start : start + 3]) == ["adaptive", "full", "stock"] for start in (0, 3, 6))


def test_ratios_are_paired_by_round() -> None:
    drifting = [1.0, 2.0, 4.0, 8.0]
    ratio = latency.ratio([0.5 * time for time in drifting], drifting)
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)


def test_a_wide_spread_is_noticed() -> None:
    calm = latency._measurement([[1.0], [1.01], [0.99], [1.0]], 1)
    noisy = latency._measurement([[1.0], [3.0], [0.5], [2.0]], 1)
    assert calm.latency_ms_spread < latency.WIDE < noisy.latency_ms_spread
    assert noisy.latency_ms_p50 == 1.5
    assert noisy.examples_per_second == pytest.approx(1000 / 1.5)


def test_forced_depths_replace_the_rule() -> None:
    model = small_model(layers=3)
    batch = random_batch(model, [4, 9])
    ways = latency.make_ways(model, make_rule("full"), {id(batch): torch.tensor([1, 3])})
    ran = ways.adaptive(batch)
    assert ran is not None
    assert ran.tolist() == [1, 3]
    assert isinstance(ForcedDepths(torch.tensor([1])).cut, float)
