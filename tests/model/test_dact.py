"""The model as transformers sees it: the interface, saving and loading, Auto classes, the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import FAMILIES, random_batch, small_config, small_model
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, BertModel

from dactcli.errors import ArtefactError, UsageError
from dactcli.halting.decision import decide
from dactcli.halting.rules import Full
from dactcli.model import DactConfig, DactForSequenceClassification
from dactcli.model.construction import from_encoder
from dactcli.model.heads import SLOPE
from dactcli.runs.folders import find_run
from dactcli.runs.load import load_run
from dactcli.runs.pretrained import load_encoder


def test_the_interface_as_documented() -> None:
    config = DactConfig(encoder_config=BertConfig(hidden_size=32, num_attention_heads=4).to_dict(), num_labels=3)
    model = DactForSequenceClassification(config)
    layers = config.encoder_config.num_hidden_layers
    out = model(
        input_ids=torch.ones(2, 5, dtype=torch.long), attention_mask=torch.ones(2, 5), labels=torch.tensor([0, 2])
    )
    assert out.loss.shape == ()
    assert out.logits.shape == (2, 3)
    assert out.layer_logits.shape == (2, layers, 3)
    assert out.halting.shape == out.remaining.shape == (2, layers)
    assert out.ponder_cost.shape == (2,)
    assert out.exit_layer is None
    torch.testing.assert_close(out.logits.exp().sum(-1), torch.ones(2))


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_forward_halts_by_its_rule_outside_training(name: str) -> None:
    model = small_model(name)
    batch = random_batch(model, [4, 9, 6])
    full = model(**batch)
    y, h, _ = model.layer_outputs(**batch)
    torch.testing.assert_close(full.logits.exp(), decide(Full(), y, h).answer, atol=1e-5, rtol=0)
    torch.testing.assert_close(full.remaining, h.cumprod(-1))
    early = model(**batch, rule="exact")
    assert early.layer_logits is early.halting is early.loss is None
    assert torch.equal(early.logits.argmax(-1), full.logits.argmax(-1))
    assert early.exit_layer.min() < 4
    model.config.rule = "exact"
    assert torch.equal(model(**batch).exit_layer, early.exit_layer)
    assert model(**batch, rule="full").exit_layer is None
    assert model.train()(**batch).exit_layer is None
    with pytest.raises(
        UsageError, match=r"rule exact stops early, which training never does; call model.eval\(\) first"
    ):
        model(**batch, rule="exact")
    labels = torch.tensor([0, 1, 2])
    for judged in (model.eval()(**batch, labels=labels), model(**batch, labels=labels, rule="exact")):
        assert torch.equal(judged.exit_layer, early.exit_layer)  # labels change no answer
        assert torch.equal(judged.logits, early.logits)
        torch.testing.assert_close(judged.loss, torch.nn.functional.nll_loss(early.logits, labels))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pooling", ["first", "attention"])
@torch.no_grad()
def test_saving_and_loading_gives_the_same_numbers_to_the_last_digit(name: str, pooling: str, tmp_path: Path) -> None:
    model = small_model(name, pooling=pooling, halting_inputs="answer", rule="exact")
    batch = random_batch(model, [4, 9, 6])
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(again, DactForSequenceClassification)
    assert not any(report.values())
    assert again.config.rule == "exact"
    assert again.config.pooling == pooling
    for key, value in model(**batch, rule="full").items():
        assert torch.equal(value, again(**batch, rule="full")[key])


def test_a_pretrained_encoder_is_used_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    model = from_encoder(load_encoder(str(tmp_path), 2), num_labels=2)
    assert model.units.layers == 2
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, stored[key])
    assert (model.units.halting_weight == -SLOPE).all()
    with pytest.raises(ArtefactError, match="the encoder has 3 layers, not 4; lower model.layers"):
        load_encoder(str(tmp_path), 4)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_pretrained_encoder_masks_its_padding_before_and_after_saving(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(small_config(name, layers=4)).save_pretrained(tmp_path / "encoder")
    model = from_encoder(load_encoder(str(tmp_path / "encoder"), None), num_labels=2).eval()
    assert model.encoder.config._attn_implementation == ("eager" if name in ("mpnet", "deberta-v2") else "sdpa")
    batch = random_batch(model, [4, 16])
    together = model(**batch).layer_logits
    alone = model(**{key: value[:1, :4] for key, value in batch.items()}).layer_logits
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)
    model.save_pretrained(tmp_path / "model")
    again = DactForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(again(**batch).layer_logits, together)


def test_an_encoder_saved_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    BertModel(config).half().save_pretrained(tmp_path)
    model = from_encoder(load_encoder(str(tmp_path), None), num_labels=2)
    assert model.dtype == torch.float32


def test_regression_stays_inside_its_range() -> None:
    model = small_model(labels=1, answer_range=[0.0, 5.0])
    batch = random_batch(model, [4, 9, 6])
    out = model(**batch, labels=torch.tensor([0.0, 2.5, 5.0]))
    assert out.logits.shape == (3, 1)
    assert (out.logits >= 0).all()
    assert (out.logits <= 5).all()
    assert torch.isfinite(out.loss)
    early = model(**batch, rule="tolerance:0.5")
    assert (early.logits - out.logits).abs().max() <= 0.5


def test_plain_fine_tuning_trains_the_last_unit_only() -> None:
    model = small_model(objective="last")
    model(**random_batch(model, [4, 9]), labels=torch.tensor([0, 1])).loss.backward()
    grad = model.units.classifier_weight.grad
    assert grad[:-1].abs().sum() == 0
    assert grad[-1].abs().sum() > 0
    assert model.units.halting_weight.grad is None


@torch.no_grad()
def test_a_certainty_head_serves_the_rule_learned(tmp_path: Path) -> None:
    model = small_model(certainty=True)
    model.units.certainty_weight.normal_()
    batch = random_batch(model, [4, 9, 6, 12])
    y, h, certainty = model.layer_outputs(**batch)
    live = model(**batch, rule="learned:0.6")
    cached = decide(model.rule("learned:0.6"), y, h, certainty)
    assert torch.equal(live.exit_layer, cached.exit_layer)
    model.save_pretrained(tmp_path)
    assert torch.equal(load_run_model(tmp_path)(**batch, rule="learned:0.6").exit_layer, live.exit_layer)
    with pytest.raises(UsageError, match="needs a certainty head"):
        small_model().rule("learned:0.6")


def test_the_certainty_head_trains_nothing_but_itself() -> None:
    batch, labels = random_batch(small_model(), [4, 9]), torch.tensor([0, 1])
    grads = []
    for certainty in (False, True):
        model = small_model(certainty=certainty)
        model(**batch, labels=labels).loss.backward()
        grads.append(model.units.dense_weight.grad)
    assert torch.equal(*grads)
    assert model.units.certainty_weight.grad.abs().sum() > 0


def load_run_model(folder: Path) -> DactForSequenceClassification:
    model: DactForSequenceClassification = DactForSequenceClassification.from_pretrained(folder).eval()
    return model


def damage(folder: Path, change: dict[str, object], *, encoder: bool = False) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config["encoder_config"] if encoder else config).update(change)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "encoder", "fault"),
    [
        ({"model_type": "bert"}, False, "this is a model of type 'bert', not a DACT model"),
        ({"encoder_config": None}, False, "encoder_config is missing"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, False, "auto_map asks for remote code"),
        ({"_attn_implementation": "someone/kernel"}, False, "could run foreign code"),
        ({"_attn_implementation": "someone/kernel"}, True, "could run foreign code"),
        ({"num_hidden_layers": -1}, True, "num_hidden_layers is -1"),
        ({"num_hidden_layers": 0}, True, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 5}, True, "weights are"),
        ({"num_hidden_layers": 3}, True, "weights"),
        ({"model_type": "gpt2"}, True, "encoders of type 'gpt2' are not supported"),
        ({"pooling": "max"}, False, "pooling is 'max'; it must be one of attention, mean, first"),
        ({"objective": "zz"}, False, "objective is 'zz'"),
        ({"rule": "exakt"}, False, "rule: rule 'exakt' is unknown"),
        ({"rule": 5}, False, "rule: rule '5' is unknown"),
        ({"id2label": {"5": "a", "7": "b", "8": "c"}}, False, "id2label does not number the classes from 0"),
        ({"class_weights": [1.0, 2.0]}, False, "class_weights does not give each class a number above 0"),
        ({"class_weights": [1.0, 2.0, -1]}, False, "class_weights does not give each class a number above 0"),
        ({"class_weights": 3}, False, "class_weights does not give each class a number above 0"),
        ({"halting": {"objective": "zz"}}, False, "objective is 'zz'; it must be one of dact, layers, last"),
        ({"halting": {"tau": None, "objective": "dact"}}, False, "objective dact needs a number for tau"),
        ({"halting": {"tua": 1}}, False, "tua is unknown; save the model again"),
        ({"halting": {"class_weights": [1.0]}}, False, "class_weights does not give each class a number above 0"),
        ({"halting": 3}, False, "halting is not a mapping"),
        ({"share_units": True}, False, "share_units is true, and exit heads that layers share are no longer supported"),
        ({"halting_inputs": "features+answer"}, False, "it must be one of answer, features"),
        ({"answer_range": [5, 1]}, False, "answer_range is .5, 1.; it must be"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], encoder: bool, fault: str
) -> None:
    small_model().save_pretrained(tmp_path)
    damage(tmp_path, change, encoder=encoder)
    with pytest.raises(ArtefactError, match=fault) as caught:
        load_run(tmp_path)
    assert str(tmp_path) in caught.value.sentence
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("units.halting_bias", None, "1 weights are missing, first units.halting_bias"),
        ("units.halting_bias", torch.zeros(7), "weights"),
        ("units.extra", torch.zeros(7), "1 weights are unexpected, first units.extra"),
        (
            "units.halting_bias",
            torch.tensor([0, 0, 0, torch.nan]),
            "units.halting_bias holds values that are not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, key: str, value: torch.Tensor | None, fault: str) -> None:
    small_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(key, None)
    if value is not None:
        weights[key] = value
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=fault):
        load_run(tmp_path)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtefactError, match="and the safetensors files hold 1,000 bytes"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"config.json: cannot be read"):
        load_run(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ArtefactError, match=r"is not a run: it has no config.json; give a run's folder"):
        load_run(tmp_path)


def test_runs_are_found_or_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError, match="dact finetune recipes/quickstart.yaml"):
        find_run(None)
    (tmp_path / "runs" / "sst2-1").mkdir(parents=True)
    (tmp_path / "runs" / "sst2-1" / "recipe.yaml").write_text("")
    with pytest.raises(ArtefactError, match="no such run; did you mean runs/sst2-1"):
        find_run(Path("runs/sst2-2"))
    with pytest.raises(ArtefactError, match="sst2-1: no such run; did you mean runs/sst2-1"):
        find_run(Path("sst2-1"))
    with pytest.raises(ArtefactError, match="runs: is not a run: it has no config.json; give a run: runs/sst2-1"):
        find_run(Path("runs"))
    with pytest.raises(ArtefactError, match="https://host/run: is an address, and runs are read from folders"):
        find_run(Path("https://host/run"))
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(ArtefactError, match=r"rows.csv: is a file, not a run; give a run's folder"):
        find_run(Path("rows.csv"))
    with pytest.raises(ArtefactError, match="sst2-1: is a training that has not finished; resume it"):
        load_run(Path("runs/sst2-1"))
    (tmp_path / "runs" / "sst2-1" / "summary.json").write_text("{}")
    with pytest.raises(ArtefactError, match="latest: is not there; name a run: runs/sst2-1"):
        find_run(None)
    with pytest.raises(ArtefactError, match=r"config.json: is missing"):
        load_run(Path("runs/sst2-1"))
    (tmp_path / "runs" / "latest").symlink_to("sst2-1")
    assert find_run(None).name == "sst2-1"
