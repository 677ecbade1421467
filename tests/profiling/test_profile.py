"""Latency, throughput, training steps, random geometries and baselines of small models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import FAMILIES, random_batch, small_config, small_model

from dactcli.data.batches import Encoded
from dactcli.errors import ArtefactError, DactError, UsageError
from dactcli.halting.rules import Full, make_rule
from dactcli.profiling import environment, geometry, latency
from dactcli.profiling.latency import Effort
from dactcli.profiling.profile import Measured, profile_latency, profile_throughput, sample, wide_notices
from dactcli.profiling.training import profile_training
from dactcli.profiling.ways import Subject, find_dtype, stock_classifier
from dactcli.results import CapacityPlan, Interval, Measurement, ProfileCase, ProfileResult, TrainingCase

EFFORT = Effort(warmup=1, repeats=3)


def subject(depths: torch.Tensor | None = None, **settings: Any) -> Subject:
    model = small_model(**settings)
    return Subject(model, stock_classifier(model), make_rule("exact"), depths)


def examples(lengths: list[int], labels: list[int] | None = None) -> Encoded:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, 120, (length,), generator=generator).tolist() for length in lengths]
    return Encoded({"input_ids": ids}, labels, [])


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_stock_classifier_runs_the_same_encoder(name: str) -> None:
    model = small_model(name)
    stock = stock_classifier(model)
    batch = random_batch(model, [4, 9, 6])
    theirs = stock.base_model(**batch).last_hidden_state
    assert torch.equal(theirs, model.encoder(**batch).last_hidden_state)
    assert stock(**batch).logits.shape == (3, 3)


def test_a_case_per_batch_size_and_the_data_set_agree_on_depths() -> None:
    seen: list[tuple[int, int]] = []
    right = ("accuracy", lambda answer, labels: float((answer.argmax(-1) == torch.tensor(labels)).double().mean()))
    one, data = subject(), Measured(examples([4, 9, 6, 15, 7], [0, 1, 2, 1, 0]), score=right)
    cases = [
        profile_latency(one, data, EFFORT, batch_size=size, progress=lambda *counts: seen.append(counts))
        for size in (1, 2)
    ]
    whole = profile_throughput(one, data, EFFORT)
    assert seen[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [case.batch_size for case in cases] == [1, 2]
    assert [len(case.stock.samples_ms) for case in cases] == [3 * 5, 3 * 3]
    for case in (*cases, whole):
        assert case.adaptive.depths == whole.adaptive.depths
        assert sum(case.adaptive.depths or []) == 5
        assert case.metric == whole.metric
        ways = (case.stock, case.full, case.adaptive)
        assert all(0 < way.latency_ms_p50 <= way.latency_ms_p90 <= way.latency_ms_p99 for way in ways)
        assert all((way.peak_memory_mib or 0) > 0 for way in ways)
        flops = [way.flops_per_example or 0 for way in ways]
        assert flops[2] < flops[1]
        assert case.realised_share.low <= case.realised_share.value <= case.realised_share.high
        assert case.ideal_ms < sum(sorted(case.stock.samples_ms))
    parts = cases[0].breakdown
    assert parts is not None
    assert parts.layers_ms[0] > 0
    assert min(parts.units_ms, parts.rule_ms, parts.embeddings_ms) > 0


def test_forced_depths_replace_the_rule_and_follow_their_examples() -> None:
    data = Measured(examples([4, 9, 6]))
    case = profile_latency(subject(torch.tensor([1, 4, 2])), data, EFFORT, batch_size=3)
    assert case.rule == "depths"
    assert case.adaptive.depths == [1, 1, 0, 1]
    assert case.metric is None
    whole = profile_throughput(subject(torch.tensor([1, 4, 2])), data, EFFORT)
    assert whole.adaptive.depths == [1, 1, 0, 1]


def test_full_depth_realises_nothing_of_an_ideal_it_does_not_have() -> None:
    model = small_model()
    one = Subject(model, stock_classifier(model), Full())
    case = profile_latency(one, Measured(examples([6, 6]), sequence_length=6), EFFORT, batch_size=2)
    assert case.sequence_length == 6
    assert case.adaptive.layers_mean == 4
    # all layers ran, so the ideal time is the stock encoder's own
    assert case.realised_share.value == pytest.approx(1 / case.time_ratio_to_stock.value, rel=0.5)


def test_a_training_step_is_measured_and_leaves_the_weights_alone() -> None:
    one = subject()
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    case = profile_training(one, Measured(examples([4, 9, 6], [0, 2, 1])), EFFORT, batch_size=2)
    assert len(case.dact.samples_ms) == len(case.plain.samples_ms) == 3 * 2
    assert set(case.phases_ms["dact"]) == {"forward", "backward", "optimizer"}
    assert all(value > 0 for phases in case.phases_ms.values() for value in phases.values())
    assert (case.dact.peak_memory_mib or 0) > 0
    assert all(torch.equal(before[name], value) for name, value in one.model.state_dict().items())
    assert not one.model.training
    assert not one.stock.training


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_profiled_from_its_configuration(family: str, tmp_path: Path) -> None:
    path, config = tmp_path / "config.json", small_config(family, layers=2, vocab_size=150).to_dict()
    path.write_text(json.dumps(config))
    model = geometry.random_model(str(path))
    sizes = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert sizes == sum(parameter.numel() for parameter in small_model(family, layers=2).encoder.parameters()) + (
        30 * config.get("embedding_size", 32)
    )
    one = Subject(model, stock_classifier(model), Full(), torch.tensor([1, 2, 1, 2]))
    data, effort = Measured(geometry.random_examples(model, 4, 9), 9), Effort(warmup=0, repeats=2)
    case = profile_latency(one, data, effort, batch_size=2)
    whole = profile_throughput(one, data, effort)
    for found in (case, whole):
        assert found.adaptive.depths == [2, 2]
        assert 0 < (found.adaptive.flops_per_example or 0) < (found.full.flops_per_example or 0)
    assert case.breakdown is not None
    assert all(spent > 0 for spent in case.breakdown.layers_ms)
    trained = profile_training(one, data, effort, batch_size=4)
    assert trained.plain.latency_ms_p50 > 0


def test_the_order_of_the_ways_rotates() -> None:
    order: list[str] = []
    ways = {name: lambda _, name=name: order.append(name) for name in ("a", "b", "c")}
    samples = latency.take_turns(ways, 1, device=torch.device("cpu"), effort=Effort(warmup=0, repeats=3))
    assert [order[start] for start in (0, 3, 6)] == ["a", "b", "c"]
    assert all(sorted(order[start : start + 3]) == ["a", "b", "c"] for start in (0, 3, 6))
    assert [len(rounds) for rounds in samples.values()] == [3, 3, 3]


def test_a_time_budget_goes_on_measuring() -> None:
    effort = Effort(warmup=0, repeats=2, seconds=0.05)
    samples = latency.take_turns({"a": lambda _: None}, 1, device=torch.device("cpu"), effort=effort)
    assert len(samples["a"]) > 2


def test_ratios_are_paired_by_round() -> None:
    drifting = [1.0, 2.0, 4.0, 8.0]
    ratio = latency.ratio([0.5 * time for time in drifting], drifting, 3.0)
    assert (ratio.low, ratio.value, ratio.high) == (1.5, 1.5, 1.5)


def test_earlier_names_of_figures_still_work() -> None:
    way = latency.measurement([[1.0], [3.0], [0.5], [2.0]], 1)
    ratio = latency.ratio([2.0], [1.0])
    with pytest.warns(DeprecationWarning, match="Interval.value"):
        assert ratio.median == 2.0
    with pytest.warns(DeprecationWarning, match="latency_relative_iqr"):
        assert way.latency_ms_spread == way.latency_relative_iqr > 0
    case = ProfileCase(1, None, "exact", way, way, way, ratio, ratio, 1.0, ratio)
    training = TrainingCase(1, None, way, way, ratio, {"plain": {"forward": 1.0}})
    document = ProfileResult({}, [case], [case], [training]).to_json()
    for entry in (*document["cases"], *document["throughput"]):
        assert entry["time_ratio_to_stock"] == entry["realised_share"] == {"median": 2.0, "low": 2.0, "high": 2.0}
        assert entry["stock"]["latency_ms_spread"] == entry["stock"]["latency_relative_iqr"] == way.latency_relative_iqr
        assert "samples_ms" not in entry["adaptive"]
    (trained,) = document["training"]
    assert trained["time_ratio_to_plain"]["median"] == 2.0
    assert trained["phases_ms"] == {"plain": {"forward": 1.0}}
    assert "samples_ms" not in trained["dact"]


def test_a_wide_spread_is_noticed() -> None:
    calm = latency.measurement([[1.0], [1.01], [0.99], [1.0]], 1)
    noisy = latency.measurement([[1.0], [3.0], [0.5], [2.0]], 1)
    assert calm.latency_relative_iqr < latency.WIDE < noisy.latency_relative_iqr
    assert latency.is_wide(calm, noisy)
    assert not latency.is_wide(calm)
    assert noisy.latency_ms_p50 == 1.5
    assert noisy.examples_per_second == pytest.approx(1000 / 1.5)


def test_depth_profiles(tmp_path: Path) -> None:
    assert geometry.depth_profile("uniform", 4, 8).bincount().tolist() == [0, 2, 2, 2, 2]
    assert sorted(geometry.depth_profile("2,3,3", 4, 6).tolist()) == [2, 2, 3, 3, 3, 3]
    (tmp_path / "depths.json").write_text("[1, 4]")
    assert sorted(geometry.depth_profile(str(tmp_path / "depths.json"), 4, 3).tolist()) == [1, 1, 4]
    assert geometry.depth_profile(",".join(["3"] * 500), 4, 2).tolist() == [3, 3]
    for wrong in ("5", "0,1", "deep", "", "1.5", str(tmp_path), "x" * 500):
        with pytest.raises(UsageError, match="`depths`: .* is not a list of depths from 1 to 4; write uniform"):
            geometry.depth_profile(wrong, 4, 8)


def test_random_geometries(tmp_path: Path) -> None:
    model = geometry.random_model("bert-tiny")
    assert (model.units.layers, model.config.encoder_config.hidden_size) == (2, 128)
    assert sum(geometry.random_examples(model, 3, 9).lengths) == 27
    with pytest.raises(UsageError, match="`sequence_length`: the encoder takes at most 512 tokens"):
        geometry.random_examples(model, 1, 513)
    with pytest.raises(UsageError, match="`random`: geometry 'bert-bas' is unknown; did you mean bert-base"):
        geometry.random_model("bert-bas")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 50,
                                "num_attention_heads": 2, "intermediate_size": 32, "auto_map": {"x": "evil.py"}}))  # fmt: skip
    assert geometry.random_model(str(path)).units.layers == 1
    for text in ("[]", "{", '{"hidden_size": 3}'):
        path.write_text(text)
        with pytest.raises(ArtefactError, match="is not an encoder configuration"):
            geometry.random_model(str(path))
    path.write_text('{"model_type": "gpt2"}')
    with pytest.raises(DactError, match="encoders of type 'gpt2' are not supported"):
        geometry.random_model(str(path))


def test_examples_are_stretched_between_their_first_and_last_token() -> None:
    stretched = geometry.stretched(examples([4, 9]), 6)
    assert stretched.lengths == [6, 6]
    first = examples([4]).inputs["input_ids"][0]
    assert stretched.inputs["input_ids"][0] == [first[0], first[1], first[2], first[1], first[2], first[3]]


def test_a_sample_is_evenly_spaced_and_keeps_its_labels() -> None:
    data = Encoded({"input_ids": [[row] for row in range(10)]}, list(range(10)), [])
    few = sample(data, 5)
    assert few.labels == [0, 2, 4, 6, 8]
    assert [row[0] for row in few.inputs["input_ids"]] == few.labels


def test_types_have_names() -> None:
    assert find_dtype("bf16") == torch.bfloat16
    with pytest.raises(UsageError, match="`dtype`: type 'int8' is unknown; use one of fp32, bf16, fp16"):
        find_dtype("int8")


def test_half_precision_runs_every_way() -> None:
    model = small_model().to(torch.bfloat16)
    one = Subject(model, stock_classifier(model), make_rule("exact"))
    case = profile_latency(one, Measured(examples([4, 9])), EFFORT, batch_size=2)
    assert sum(case.adaptive.depths or []) == 2


def test_a_baseline_is_compared_case_by_case(tmp_path: Path) -> None:
    one = subject()
    cases = [profile_latency(one, Measured(examples([4, 9])), EFFORT, batch_size=size) for size in (1, 2)]
    result = ProfileResult(environment.environment(one.model), cases)
    path = tmp_path / "earlier.json"
    document = result.to_json()
    document["cases"][0]["time_ratio_to_stock"]["median"] *= 2
    document["cases"][1]["batch_size"] = 77
    document["environment"]["threads"] = 64
    path.write_text(json.dumps(document))
    compared = environment.against(result, environment.read_baseline(path))
    assert compared.cases[0].baseline == {"time_ratio_to_stock": pytest.approx(0.5), "latency_ms_p50": 1.0}
    assert compared.cases[1].baseline is None
    assert "threads differ" in compared.notices[0]
    assert "samples_ms" not in document["cases"][0]["stock"]
    assert "samples_ms" in result.to_json(raw=True)["cases"][0]["stock"]
    for text in ("{}", "[1]", "no"):
        path.write_text(text)
        with pytest.raises(UsageError, match="is not a profile; give a file that dact profile --output wrote"):
            environment.read_baseline(path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        environment.read_baseline(tmp_path / "none.json")


def test_wide_cases_are_named() -> None:
    calm = latency.measurement([[1.0]] * 4, 1)
    wide = latency.measurement([[1.0], [3.0], [0.5], [2.0]], 1)
    case = profile_latency(subject(), Measured(examples([4])), EFFORT, batch_size=1)
    from dataclasses import replace

    noisy = replace(case, stock=wide, full=calm, adaptive=calm)
    quiet = replace(case, stock=calm, full=calm, adaptive=calm)
    assert wide_notices(ProfileResult({}, [quiet], [quiet])) == []
    assert [note.split(":")[0] for note in wide_notices(ProfileResult({}, [noisy], [noisy]))] == [
        "batch 1",
        "throughput",
    ]


def test_a_plan_counts_hours_and_workers() -> None:
    def way(rate: float) -> Measurement:
        return Measurement(1.0, 1.0, 1.0, rate, 0.0)

    one = Interval(1.0, 1.0, 1.0)
    case = ProfileCase(32, None, "exact", way(100), way(90), way(250), one, one, 1.0, one)
    plan = CapacityPlan.of(case, 9e6)
    assert [found.name for found in plan.ways] == ["stock", "full depth", "adaptive"]
    assert [found.hours for found in plan.ways] == pytest.approx([25, 27.78, 10], abs=0.01)
    assert [found.workers for found in plan.ways] == [[25, 4, 2], [28, 4, 2], [10, 2, 1]]
