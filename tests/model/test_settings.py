"""Halting settings have one home: recipe, model and loss share defaults, and models of earlier versions load alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TINY, small_config, small_model, train, words

from dactcli.errors import UsageError
from dactcli.model import DactConfig, DactForSequenceClassification
from dactcli.model.config import HALTING_KEYS
from dactcli.profiling.geometry import random_model
from dactcli.recipe.load import load_recipe
from dactcli.recipe.schema import DactSection, ModelSection
from dactcli.recipe.settings import REGRESSION_TAU, HaltingKeys, HaltingSettings
from dactcli.runs.load import load_run
from dactcli.training.build import build_model
from dactcli.training.stages import final_settings, halting_loss, resolve_stages

# what the version before wrote beside the encoder's configuration, by its own defaults
EARLIER: dict[str, Any] = {
    "model_type": "dact",
    "dact_format": 1,
    "pooling": "mean",
    "share_units": False,
    "halting_bias": "auto",
    "halting_inputs": "features",
    "certainty": False,
    "keep_classifier": False,
    "rule": None,
    "answer_range": None,
    "objective": "dact",
    "tau": 0.05,
    "ponder": "sum_h",
    "answer_loss": "nll",
    "layer_loss": "equal",
    "layer_loss_weight": 1.0,
    "detach": True,
    "distill": 0.0,
    "class_weights": None,
    "id2label": {"0": "a", "1": "b"},
    "label2id": {"a": 0, "b": 1},
}


def earlier(**changes: Any) -> dict[str, Any]:
    return {**EARLIER, "encoder_config": small_config("bert", layers=2).to_dict(), **changes}


def recipe_of(folder: Path, text: str = TINY, *overrides: str) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


PLAIN = "data: {source: builtin}\nmodel:\n  encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2}\n"


# Defaults


def test_defaults_agree(tmp_path: Path) -> None:
    """The configuration, a recipe that says nothing, the model built from it, and `profile --random`."""
    config, recipe = DactConfig(), recipe_of(tmp_path, PLAIN)
    (stage,) = resolve_stages(recipe)
    assert final_settings(recipe, [stage]) == config.halting == HaltingSettings()
    model = build_model(recipe, _tokenizer(), labels=["a", "b"], answer_range=None, class_weights=None)
    profiled = random_model("bert-tiny")
    for other in (model.config, profiled.config, ModelSection(encoder="x")):
        for name in ("pooling", "halting_inputs", "certainty", "keep_classifier"):
            assert getattr(other, name) == getattr(config, name), name
    assert profiled.config.halting == config.halting
    assert {name: getattr(DactSection(), name) for name in HaltingKeys.model_fields} == dict(HaltingKeys())
    assert profiled.exit_heads.halting_weight.shape == (2, 1)


def test_defaults_of_a_regression_agree(tmp_path: Path) -> None:
    """A number does not say how sure it is, and its loss is a squared error."""
    text = PLAIN.replace("source: builtin", "source: files, train: t.csv, validation: v.csv")
    recipe = recipe_of(tmp_path, text + "task: {name: x, metric: pearson, range: [0, 1]}\n")
    config = DactConfig(num_labels=1, answer_range=(0, 1))
    assert config.halting_inputs == recipe.model.halting_inputs == "features"
    assert config.halting.tau == recipe.dact.tau == REGRESSION_TAU
    assert final_settings(recipe, resolve_stages(recipe)) == config.halting
    with pytest.raises(UsageError, match="halting_inputs is answer, and the answer of a regression"):
        DactForSequenceClassification(DactConfig(num_labels=1, answer_range=(0, 1), halting_inputs="answer"))


def _tokenizer() -> Any:

    return words("bert")


# A price of 0 and no price


def test_no_price_is_not_a_price_of_0(tmp_path: Path) -> None:
    for text, tau, objective in (("null", None, "layers"), ("0", 0.0, "dact")):
        recipe = recipe_of(tmp_path, PLAIN, f"dact.tau={text}", "model.halting_inputs=features")
        (stage,) = resolve_stages(recipe)
        assert (stage.loss.tau, stage.loss.objective) == (tau, objective)
        model = build_model(recipe, _tokenizer(), labels=["a", "b"], answer_range=None, class_weights=None)
        assert model.config.halting == model.loss_settings == stage.loss
        model.save_pretrained(tmp_path / text)
        stored = json.loads((tmp_path / text / "config.json").read_text())["halting"]
        assert (stored["tau"], stored["objective"]) == (tau, objective)
        again = DactForSequenceClassification.from_pretrained(tmp_path / text)
        assert again.loss_settings == stage.loss
        assert again.mixes is (text == "0")
    assert DactConfig(halting={"tau": None}).objective == "layers"
    assert DactConfig(halting={"tau": 0}).objective == "dact"


def test_the_thresholds_are_learned_at_the_last_price_also_when_it_is_0(tmp_path: Path) -> None:
    stages = "training.stages=[{name: joint, tau: 0.3}, {name: units, tau: 0}, {name: units, tau: null}]"
    assert halting_loss(resolve_stages(recipe_of(tmp_path, PLAIN, stages))).tau == 0.0


# Configurations


def test_settings_survive_saving(tmp_path: Path) -> None:
    settings = HaltingSettings(tau=0.2, ponder="sum_h", layer_loss="depth", class_weights=(0.5, 1.5))
    config = DactConfig(halting=settings)
    config.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["halting"] == {**dict(settings), "class_weights": [0.5, 1.5]}
    assert not HALTING_KEYS & document.keys()
    again = DactConfig.from_pretrained(tmp_path)
    assert again.halting == settings
    assert again.to_dict()["halting"] == config.to_dict()["halting"]
    assert DactConfig.from_pretrained(tmp_path, halting={"tau": 0.1}).halting == HaltingSettings(tau=0.1)


@pytest.mark.parametrize("changes", [{}, {"tau": 0.0, "objective": "layers", "halting_bias": -1.0}, {"detach": False}])
def test_a_configuration_of_the_version_before_means_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    document = earlier(**changes)
    (tmp_path / "config.json").write_text(json.dumps(document))
    config = DactConfig.from_pretrained(tmp_path)
    assert {key: getattr(config.halting, key) for key in HALTING_KEYS} == {"tau_unit": 1.0} | {
        key: document[key] for key in HALTING_KEYS & document.keys()
    }
    assert (config.pooling, config.halting_inputs, config.num_labels) == ("mean", "features", 2)
    written = config.to_dict()
    assert not (HALTING_KEYS | {"share_units", "halting_bias"}) & written.keys()
    # an earlier file without some of its keys has the defaults of its version
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in document.items() if k in ("model_type", "tau")}))
    assert DactConfig.from_pretrained(tmp_path).halting.ponder == "sum_h"
    assert DactConfig.from_pretrained(tmp_path).pooling == "mean"


def test_a_run_of_the_version_before_answers_the_same_and_keeps_its_files(tmp_path: Path) -> None:
    run = Path(train(tmp_path, TINY, "training.stages=[{name: joint, epochs: 1, max_steps: 2}]").run)
    now = load_run(run)
    config = json.loads((run / "config.json").read_text())
    halting = config.pop("halting")
    text = json.dumps({**config, **halting, "share_units": False, "halting_bias": "auto"})
    (run / "config.json").write_text(text)
    recipe = (
        (run / "recipe.yaml")
        .read_text()
        .replace("  pooling:", "  share_units: false\n  halting_bias: auto\n  pooling:")
    )
    (run / "recipe.yaml").write_text(recipe)
    then = load_run(run)
    assert then.model.config.halting == now.model.config.halting
    assert then.recipe == now.recipe
    batch = now.tokenizer(["the cat sleeps", "the cats sleeps near the dog"], padding=True, return_tensors="pt")
    for rule in ("full", "exact"):
        found = [one.model(**batch, rule=rule, labels=torch.tensor([0, 1])) for one in (now, then)]
        assert torch.equal(found[0].logits, found[1].logits)
        assert torch.equal(found[0].loss, found[1].loss)
    assert (run / "config.json").read_text() == text  # certificates are bound to its digest


def test_shared_exit_heads_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(earlier(share_units=True)))
    with pytest.raises(UsageError, match=r"share_units is true.*; fine-tune the model again"):
        DactConfig.from_pretrained(tmp_path)


def test_former_keywords_and_attributes_are_still_taken() -> None:
    with pytest.warns(DeprecationWarning, match=r"DactConfig.tau has moved to DactConfig.halting.tau") as warned:
        config = DactConfig(tau=0.3)
    assert warned[0].filename == __file__
    assert config.halting == HaltingSettings(tau=0.3)
    with pytest.warns(DeprecationWarning, match="tau has moved"):
        assert config.tau == 0.3
    with pytest.warns(DeprecationWarning, match="ponder has moved"):
        config.ponder = "sum_h"
    assert config.halting == HaltingSettings(tau=0.3, ponder="sum_h")
    assert "ponder" not in config.to_dict()
    with pytest.raises(UsageError, match="DactConfig no longer takes share_units; leave it out"):
        DactConfig(share_units=True)
    assert DactConfig(share_units=False, halting_bias="auto").halting == HaltingSettings()


@pytest.mark.parametrize(
    ("halting", "fault"),
    [
        ({"taw": 1}, "halting.taw: is unknown; the settings are answer_loss"),
        ({"tau": "0.1"}, "halting.tau: must be a valid number"),
        ({"tau": float("nan")}, "halting.tau: must be"),
        ({"tau": None, "objective": "dact"}, "halting: objective dact needs a number for tau"),
        ({"class_weights": [1, 0]}, "halting.class_weights.1: must be greater than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(halting: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        DactConfig(halting=halting)
    assert caught.value.sentence.startswith(fault)


# Names


def test_weights_keep_their_names() -> None:
    """Files of earlier versions hold `units.*`."""
    model = small_model()
    assert model.exit_heads is model.units
    names = {name for name in model.state_dict() if not name.startswith("encoder.")}
    heads = ("dense_weight", "dense_bias", "classifier_weight", "classifier_bias", "halting_weight", "halting_bias")
    assert names == {f"units.{name}" for name in heads}
