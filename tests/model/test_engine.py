"""Invariants 3 and 4: the engine agrees with the full pass, whatever the batch, its padding and its neighbours."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FAMILIES, Scripted, adversaries, random_batch, small_model

from dactcli.halting.base import Rule
from dactcli.halting.decision import decide
from dactcli.halting.limits import ForcedDepths
from dactcli.halting.rules import Full, Layer, make_rule
from dactcli.model.engine import run_adaptive, run_batches
from dactcli.model.finite import unfinite_rows

MARGIN = 1e-4
MODELS = [*FAMILIES, "attention"]
RULES = [
    "exact",
    "paper",
    "confidence:0.7",
    "answer_entropy:0.5",
    "entropy:0.5",
    "max_prob:0.7",
    "patience:1",
    "layer:2",
]


@functools.cache
def model_of(name: str) -> Any:
    """The model of a name, built when the first test asks for it and changed by none."""
    return small_model(layers=5, pooling="attention") if name == "attention" else small_model(name, layers=5)


def near_the_cut(rule: Rule, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Rows whose score comes so close to the cut at some layer that rounding may move their halt [B]."""
    full = run_adaptive(model, Full(), batch, trace=True)
    assert full.trace is not None
    y, h = full.trace.layer_answers, full.trace.halting
    from dactcli.halting.state import HaltingState

    state = HaltingState.start(len(y), y.shape[-1], layers=y.shape[1], mixes=True, like=y)
    close = torch.zeros(len(y), dtype=torch.bool)
    for n in range(y.shape[1] - 1):
        state.step(y[:, n], h[:, n])
        close |= (rule.score(state) - rule.cut).abs() < MARGIN
    return close


@pytest.mark.parametrize("name", MODELS)
@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=9), st.integers(0, 10**6), st.sampled_from(RULES), st.booleans()
)
@settings(max_examples=60)
def test_the_engine_equals_the_full_pass_followed_by_the_rule(
    name: str, lengths: list[int], seed: int, text: str, left: bool
) -> None:
    model, rule = model_of(name), make_rule(text)
    batch = random_batch(model, lengths, seed=seed, left=left)
    live = run_adaptive(model, rule, batch)
    y, h, _ = model.layer_outputs(**batch)
    cached = decide(rule, y, h)
    sure = torch.ones(len(lengths), dtype=torch.bool) if text == "layer:2" else ~near_the_cut(rule, model, batch)
    if text == "patience:1":
        sure = (y.topk(2).values.diff(dim=-1).abs() > MARGIN).all(-1).all(-1)
    assert torch.equal(live.exit_layer[sure], cached.exit_layer[sure])
    torch.testing.assert_close(live.answer[sure], cached.answer[sure], atol=1e-4, rtol=0)
    if rule.sound:
        assert torch.equal(live.answer.argmax(-1), decide(Full(), y, h).answer.argmax(-1))


@pytest.mark.parametrize("name", MODELS)
@given(st.lists(st.integers(2, 20), min_size=2, max_size=6), st.integers(0, 10**6), st.integers(0, 8))
@settings(max_examples=40)
def test_neighbours_and_padding_change_nothing(name: str, lengths: list[int], seed: int, extra: int) -> None:
    model, rule = model_of(name), make_rule("exact")
    batch = random_batch(model, lengths, seed=seed)
    together = run_adaptive(model, rule, batch)
    close = near_the_cut(rule, model, batch)
    for row, length in enumerate(lengths):
        alone = {key: value[row : row + 1, :length] for key, value in batch.items()}
        padded = {
            "input_ids": torch.nn.functional.pad(
                alone["input_ids"], (0, extra), value=model.encoder.config.pad_token_id
            ),
            "attention_mask": torch.nn.functional.pad(alone["attention_mask"], (0, extra)),
        }
        for variant in (alone, padded):
            single = run_adaptive(model, rule, variant)
            assert single.answer.argmax() == together.answer[row].argmax()
            if not close[row]:
                assert single.exit_layer[0] == together.exit_layer[row]
                torch.testing.assert_close(single.answer[0], together.answer[row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@given(
    st.lists(st.lists(st.integers(2, 20), min_size=1, max_size=5), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.sampled_from(RULES),
    st.integers(0, 120),
    st.booleans(),
)
@settings(max_examples=60)
def test_pooling_survivors_of_several_batches_changes_nothing(
    name: str, lengths: list[list[int]], seed: int, text: str, regroup: int, left: bool
) -> None:
    model, rule = model_of(name), make_rule(text)
    order = torch.randperm(sum(map(len, lengths)), generator=torch.Generator().manual_seed(seed)).tolist()
    batches, at = [], 0
    for number, some in enumerate(lengths):
        batches.append((order[at : at + len(some)], random_batch(model, some, seed=seed + number, left=left)))
        at += len(some)
    pooled = run_batches(model, rule, batches, len(order), regroup=regroup)
    for positions, batch in batches:
        alone = run_adaptive(model, rule, batch)
        sure = ~near_the_cut(rule, model, batch)
        if text == "patience:1":
            sure = torch.zeros_like(sure)
        assert torch.equal(pooled.exit_layer[positions][sure], alone.exit_layer[sure])
        torch.testing.assert_close(pooled.answer[positions][sure], alone.answer[sure], atol=1e-4, rtol=0)
        if rule.sound:
            assert torch.equal(pooled.answer[positions].argmax(-1), alone.answer.argmax(-1))


@pytest.mark.parametrize("name", ["exact", "paper"])
@pytest.mark.parametrize(("layers", "classes"), [(12, 77), (28, 2), (128, 2)])
def test_no_adversary_flips_a_sound_rule_in_live_inference(name: str, layers: int, classes: int) -> None:
    logits, _, h = adversaries(layers, classes, 200_000 // (layers * classes), seed=5)
    model = Scripted(logits, torch.logit(h.double()).clamp(-200, 200).float())
    rows = torch.arange(len(logits))
    early = run_adaptive(model, make_rule(name), {"input_ids": rows.unsqueeze(-1)})
    full = run_adaptive(model, Full(), {"input_ids": rows.unsqueeze(-1)})
    assert (early.exit_layer < layers).float().mean() > 0.3
    assert torch.equal(early.answer.argmax(-1), full.answer.argmax(-1))
    batches = [(part.tolist(), {"input_ids": part.unsqueeze(-1)}) for part in torch.split(rows, 997)]
    pooled = run_batches(model, make_rule(name), batches, len(rows), regroup=64)
    assert torch.equal(pooled.answer.argmax(-1), full.answer.argmax(-1))
    # torch's own sigmoid and softmax round differently at another place of a batch
    assert (pooled.exit_layer == early.exit_layer).float().mean() > 0.99


@pytest.mark.parametrize(
    "text", ["exact", "paper", "confidence:0.9", "max_prob:0.9", "entropy:0.1", "patience:2", "full"]
)
def test_a_row_that_is_no_number_is_delivered_as_such_and_changes_no_other(text: str) -> None:
    torch.manual_seed(4)
    logits, s = torch.randn(40, 5, 3) * 3, torch.randn(40, 5) - 1
    bad, off = logits.clone(), s.clone()
    bad[3], bad[7, 1:], bad[20, :, 2], off[11] = torch.nan, torch.nan, torch.inf, torch.nan
    rule, rows = make_rule(text), torch.arange(40)
    clean = run_adaptive(Scripted(logits, s), rule, {"input_ids": rows.unsqueeze(-1)})
    batches = [(part.tolist(), {"input_ids": part.unsqueeze(-1)}) for part in torch.split(rows, 7)]
    for out in (
        run_adaptive(Scripted(bad, off), rule, {"input_ids": rows.unsqueeze(-1)}, trace=True),
        run_batches(Scripted(bad, off), rule, batches, 40, regroup=5),
    ):
        assert {3, 20} <= set(unfinite_rows(out.answer)) <= {3, 7, 11, 20}
        others = torch.tensor([row for row in range(40) if row not in (3, 7, 11, 20)])
        assert torch.equal(out.exit_layer[others], clean.exit_layer[others])
        torch.testing.assert_close(out.answer[others], clean.answer[others])
    model = Scripted(bad, off)
    run_adaptive(model, rule, {"input_ids": rows.unsqueeze(-1)})
    assert model.asked <= 5  # nothing loops


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_row_of_padding_alone_is_one_padding_token(name: str) -> None:
    """An empty text by a tokenizer without special tokens: alone, beside others, padded on either side."""
    model = model_of(name)
    token = torch.full((1, 1), model.encoder.config.pad_token_id)
    alone = run_adaptive(model, Full(), {"input_ids": token, "attention_mask": torch.ones_like(token)}).answer[0]
    for left in (False, True):
        batch = random_batch(model, [7, 0, 3], left=left)
        assert batch["attention_mask"][1].sum() == 0
        torch.testing.assert_close(run_adaptive(model, Full(), batch).answer[1], alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(model(**batch, rule="full").logits[1].exp(), alone, atol=1e-4, rtol=0)
        early = run_adaptive(model, make_rule("exact"), batch)
        assert early.answer[1].argmax() == alone.argmax()
        assert early.answer.isfinite().all()
    nothing = model(input_ids=torch.zeros(2, 0), attention_mask=torch.zeros(2, 0), rule="full")
    torch.testing.assert_close(nothing.logits.exp(), alone.expand(2, -1), atol=1e-4, rtol=0)


def test_survivors_run_on_together() -> None:
    model = small_model(layers=4)
    batches = [([row], random_batch(model, [6], seed=row)) for row in (2, 0, 1)]
    seen: list[int] = []
    for layer in model.encoder.encoder.layer:
        layer.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    out = run_batches(model, ForcedDepths(torch.tensor([4, 1, 3])), batches, 3, regroup=12)
    assert out.exit_layer.tolist() == [4, 1, 3]
    # rows 2 and 0 wait for each other after layer 1, run 2 and 3 together; row 1 stops at once; row 0 ends alone
    assert seen == [1, 1, 2, 2, 1, 1]


def test_nothing_waits_without_regrouping_and_memory_is_bounded_with_it() -> None:
    model = small_model(layers=3)
    batches = [([row], random_batch(model, [5], seed=row)) for row in range(12)]
    live: list[int] = []

    def counted() -> object:
        for number, batch in enumerate(batches):
            live.append(number)
            yield batch

    widths: list[int] = []
    for layer in model.encoder.encoder.layer:
        layer.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[0] * args[0].shape[1]))
    run_batches(model, Full(), counted(), 12, regroup=20)  # type: ignore[arg-type]
    assert len(live) == 12
    assert max(widths) <= 3 * 20


def test_the_first_token_stays_where_units_pool_it() -> None:
    model = small_model(layers=3, pooling="first")
    batch = random_batch(model, [6, 6])
    batch["attention_mask"][1, :2] = 0  # padded on the left
    out = run_adaptive(model, ForcedDepths(torch.tensor([1, 3])), batch)
    y, h, _ = model.layer_outputs(**batch)
    torch.testing.assert_close(out.answer[1], decide(Full(), y, h).answer[1], atol=1e-5, rtol=0)


def test_rows_come_back_in_the_callers_order_and_the_trace_stops_with_them() -> None:
    model = model_of("bert")
    batch = random_batch(model, [5, 11, 3, 8])
    depths = torch.tensor([4, 1, 5, 2])
    out = run_adaptive(model, ForcedDepths(depths), batch, trace=True)
    assert out.exit_layer.tolist() == depths.tolist()
    assert out.trace is not None
    ran = ~out.trace.halting.isnan()
    assert ran.sum(-1).tolist() == depths.tolist()
    y, h, _ = model.layer_outputs(**batch)
    for row, depth in enumerate(depths.tolist()):
        wanted = decide(Layer(depth), y[row : row + 1], h[row : row + 1])
        torch.testing.assert_close(out.trace.layer_answers[row, depth - 1], wanted.answer[0], atol=1e-4, rtol=0)


def test_layers_run_on_live_rows_only() -> None:
    model = small_model(layers=4)
    batch = random_batch(model, [4, 12, 9])
    seen: list[tuple[int, int]] = []
    for layer in model.encoder.encoder.layer:
        layer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    run_adaptive(model, ForcedDepths(torch.tensor([4, 1, 2])), batch)
    assert seen == [(3, 12), (2, 9), (1, 4), (1, 4)]


def test_plain_models_compute_the_last_unit_only() -> None:
    model = small_model(layers=3, objective="last")
    batch = random_batch(model, [4, 6])
    out = run_adaptive(model, Full(), batch)
    y, _, _ = model.layer_outputs(**batch)
    torch.testing.assert_close(out.answer, y[:, -1], atol=1e-5, rtol=0)
    assert out.exit_layer.tolist() == [3, 3]


def test_a_device_is_never_exchanged_for_another() -> None:
    from dactcli.errors import ResourceError, UsageError
    from dactcli.model.device import find_device

    assert find_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="`device`: device 'tpu' is unknown; use auto, cpu, cuda, mps"):
        find_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="`device` cuda: .*CUDA.*; .*`device` cpu") as caught:
            find_device("cuda")
        assert caught.value.exit_code == 5


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_the_engine_on_cuda_agrees_with_the_cpu(name: str) -> None:
    model = small_model(name, layers=5)
    batch = random_batch(model, [5, 11, 3, 8, 17])
    rule = make_rule("exact")
    close = near_the_cut(rule, model, batch)
    cpu = run_adaptive(model, rule, batch)
    cuda = run_adaptive(model.cuda(), rule, {key: value.cuda() for key, value in batch.items()})
    assert torch.equal(cuda.exit_layer.cpu()[~close], cpu.exit_layer[~close])
    torch.testing.assert_close(cuda.answer.cpu(), cpu.answer, atol=1e-3, rtol=0)
