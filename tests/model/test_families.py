"""What every encoder family can do, cell by cell of the table in docs/encoders.md, which these tests make.

A cell says yes when its test came to its end in this very process. To write the table anew, for a new family say:

    DACT_WRITE_DOCS=1 scripts/test tests/model/test_families.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import FAMILIES, pretrained, random_batch, small_config, small_model, train, words
from transformers import AutoModelForSequenceClassification

from dactcli.errors import ArtefactError, UsageError
from dactcli.halting.decision import decide
from dactcli.halting.limits import ForcedDepths
from dactcli.model import encoders
from dactcli.model.engine import run_adaptive, run_batches
from dactcli.model.tokenizers import load_tokenizer
from dactcli.runs.load import load_run, save_model
from dactcli.runs.pretrained import load_encoder

DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"
TABLE = re.compile(r"(?<=<!-- made by tests/model/test_families.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
FULL, ENGINE, PADDING, SAVED, FINETUNED = COLUMNS = ("full pass", "engine", "padding", "save and load", "finetune")
PASSED: set[tuple[str, str]] = set()
LENGTHS = [4, 15, 6, 9, 15]
every_family = pytest.mark.parametrize("name", encoders.FAMILIES)
RECIPE = """
task: {name: agreement}
data: {source: builtin, max_length: 48, examples: 64}
model: {encoder: ENCODER}
training: {max_steps: 2, batch_size: 8}
output: {name: tiny}
"""


@every_family
@torch.no_grad()
def test_the_layers_by_hand_are_the_librarys_own(name: str) -> None:
    model = small_model(name)
    for lengths, left in (([7, 7], False), (LENGTHS, False), (LENGTHS, True)):
        batch = random_batch(model, lengths, left=left)
        adapter = model.adapter
        state = adapter.embed(batch["input_ids"], batch["attention_mask"], None)
        for layer in range(1, model.units.layers + 1):
            state = adapter.run(layer, state)
        assert torch.equal(adapter.output(state), model.encoder(**batch).last_hidden_state)
        out = model(**batch)
        assert out.layer_logits.shape == (len(lengths), 4, 3)
        assert torch.isfinite(out.layer_logits).all()
    model.train()
    with torch.enable_grad():
        model(**batch, labels=torch.zeros(len(LENGTHS), dtype=torch.long)).loss.backward()
    assert all(layer_has_gradient(layer) for layer in model.adapter.layers)
    PASSED.add((name, FULL))


def layer_has_gradient(layer: Any) -> bool:
    return any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


@every_family
@torch.no_grad()
def test_rows_that_leave_answer_as_at_their_depth_of_the_full_pass(name: str) -> None:
    model = small_model(name)
    depths = [2, 4, 1, 3, 4]
    for left in (False, True):
        batch = random_batch(model, LENGTHS, left=left)
        y, h, _ = model.layer_outputs(**batch)
        wanted = decide(ForcedDepths(torch.tensor(depths)), y, h).answer
        out = run_adaptive(model, ForcedDepths(torch.tensor(depths)), batch)
        assert out.exit_layer.tolist() == depths
        torch.testing.assert_close(out.answer, wanted, atol=1e-5, rtol=0)
        halves = [([0, 1], {key: value[:2] for key, value in batch.items()}),
                  ([2, 3, 4], {key: value[2:] for key, value in batch.items()})]  # fmt: skip
        pooled = run_batches(model, ForcedDepths(torch.tensor(depths)), halves, 5, regroup=40)
        assert pooled.exit_layer.tolist() == depths
        torch.testing.assert_close(pooled.answer, wanted, atol=1e-5, rtol=0)
    PASSED.add((name, ENGINE))


@every_family
@torch.no_grad()
def test_padding_and_neighbours_change_nothing(name: str) -> None:
    model, rule = small_model(name), ForcedDepths(torch.tensor([4]))
    batch = random_batch(model, LENGTHS)
    together = model(**batch).layer_logits
    for row, length in enumerate(LENGTHS):
        alone = {key: value[row : row + 1, :length] for key, value in batch.items()}
        longer = {
            "input_ids": torch.nn.functional.pad(alone["input_ids"], (0, 7), value=model.encoder.config.pad_token_id),
            "attention_mask": torch.nn.functional.pad(alone["attention_mask"], (0, 7)),
        }
        for variant in (alone, longer):
            torch.testing.assert_close(model(**variant).layer_logits[0], together[row], atol=1e-4, rtol=0)
            out = run_adaptive(model, rule, variant, trace=True)
            assert out.trace is not None
            torch.testing.assert_close(out.trace.layer_answers[0], together[row].softmax(-1), atol=1e-4, rtol=0)
    PASSED.add((name, PADDING))


@every_family
@torch.no_grad()
def test_a_saved_model_answers_the_same_to_the_last_digit(name: str, tmp_path: Path) -> None:
    model, tokenizer = small_model(name, rule="exact"), words(name)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    batch = random_batch(model, LENGTHS)
    save_model(model, tokenizer, tmp_path)
    ours = load_run(tmp_path)
    theirs, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert ours.tokenizer("the cat")["input_ids"] == words(name)("the cat")["input_ids"]
    for again in (ours.model, theirs):
        assert type(again.encoder) is type(model.encoder)
        for key, value in model(**batch, rule="full").items():
            assert torch.equal(value, again(**batch, rule="full")[key])
        assert torch.equal(model(**batch).exit_layer, again(**batch).exit_layer)
    PASSED.add((name, SAVED))


@every_family
def test_two_steps_of_fine_tuning_on_a_pretrained_encoder(name: str, tmp_path: Path) -> None:
    folder = pretrained(name, tmp_path / "encoder")
    before = load_encoder(str(folder), 2)
    with torch.no_grad():  # cut encoders give what the whole one has after so many layers
        ids = torch.arange(5, 15).unsqueeze(0)
        hidden = load_encoder(str(folder), None).eval()(input_ids=ids, output_hidden_states=True).hidden_states
        after = before.eval()(input_ids=ids, output_hidden_states=True).hidden_states
        assert torch.equal(after[1], hidden[1])
    result = train(tmp_path / "run", RECIPE.replace("ENCODER", f"{folder}, layers: 2"))
    assert result.steps == 2
    run = load_run(Path(result.run))
    assert run.model.units.layers == 2
    assert run.model.config.encoder_config.model_type == name
    assert run.tokenizer.get_vocab() == load_tokenizer(folder).get_vocab()
    moved = [not torch.equal(value, before.state_dict()[key]) for key, value in run.model.encoder.state_dict().items()]
    assert any(moved)
    assert run.model.units.classifier_weight.isfinite().all()
    PASSED.add((name, FINETUNED))


@pytest.mark.last
def test_the_table_in_the_docs_is_what_has_just_passed() -> None:
    """Passes after the tests above only: one that did not run, or failed, has no yes to give."""
    rows = [["family", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    rows += [[f"`{name}`", *("yes" if (name, column) in PASSED else "no" for column in COLUMNS)]
             for name in encoders.FAMILIES]  # fmt: skip
    made = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = DOCS.read_text(encoding="utf-8")
    assert "no" not in made.replace("|", " ").split(), f"a test above failed or did not run:\n{made}"
    if os.environ.get("DACT_WRITE_DOCS"):
        text = TABLE.sub(lambda _: made, text)
        DOCS.write_text(text, encoding="utf-8")
    assert [found.group() for found in TABLE.finditer(text)] == [made], "write the table anew"


@every_family
def test_in_bfloat16_rows_leave_too(name: str) -> None:
    """Whole, and under autocast as in training; beyond the table, because nobody promises digits there."""
    model, batch = small_model(name), random_batch(small_model(name), LENGTHS)
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])  # as some tokenizers give them
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(**batch, labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
        cast = run_adaptive(model.eval(), ForcedDepths(torch.tensor([2, 4, 1, 3, 4])), batch)
    whole = run_adaptive(model.to(torch.bfloat16), ForcedDepths(torch.tensor([2, 4, 1, 3, 4])), batch)
    for out in (cast, whole):
        assert out.exit_layer.tolist() == [2, 4, 1, 3, 4]
        assert out.answer.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_every_family_has_a_small_configuration() -> None:
    assert set(FAMILIES) == set(encoders.FAMILIES)


def test_an_encoder_of_another_type_says_which_are_supported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ArtefactError, match="encoders of type 'gpt2' are not supported; use one of bert, ") as caught:
        load_encoder(str(tmp_path), None)
    assert all(name in caught.value.sentence for name in encoders.FAMILIES)
    assert str(tmp_path) in caught.value.sentence


def test_texts_are_as_long_as_the_positions_that_are_left() -> None:
    left = {name: encoders.family(name).longest(small_config(name, layers=1)) for name in FAMILIES}
    spend = dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), 62)
    assert left == {**dict.fromkeys(FAMILIES, 64), **spend}


@pytest.mark.parametrize("name", ["roberta", "mpnet"])
def test_the_longest_text_runs(name: str) -> None:
    model = small_model(name)
    assert model(**random_batch(model, [62])).logits.isfinite().all()
    with pytest.raises(
        UsageError, match="a text has 63 tokens, and this model takes at most 62; cut texts: give trunc"
    ):
        model(**random_batch(model, [63]))


def test_layers_that_share_weights_are_cut_between_their_groups(tmp_path: Path) -> None:
    folder = pretrained("albert", tmp_path)
    assert load_encoder(str(folder), 2).config.num_hidden_groups == 1
    with pytest.raises(ArtefactError, match="layers share 2 sets of weights; set model.layers to a multiple of 2"):
        load_encoder(str(folder), 3)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("distilbert", "dim", 10**9),
        ("distilbert", "hidden_size", 10**9),
        ("distilbert", "n_layers", 0),
        ("distilbert", "n_layers", 999),
        ("distilbert", "dropout", "x"),
        ("albert", "num_hidden_groups", 10**6),
        ("albert", "inner_group_num", 0),
        ("electra", "embedding_size", 99_999),
        ("mpnet", "relative_attention_num_buckets", 10**9),
        ("deberta-v2", "position_buckets", 10**9),
        ("deberta-v2", "norm_rel_ebd", 3),
        ("modernbert", "global_attn_every_n_layers", 0),
        ("modernbert", "layer_types", ["full_attention"]),
        ("modernbert", "local_attention", "x"),
    ],
)
def test_sizes_by_the_familys_own_names_are_screened(name: str, key: str, value: Any, tmp_path: Path) -> None:
    folder = pretrained(name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ArtefactError) as caught:
        load_encoder(str(folder), None)
    assert str(folder) in caught.value.sentence
