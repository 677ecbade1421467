"""LoRA: what is trained and what stays, merged and unmerged answers, resuming, and recipes that cannot have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import FAMILIES, STEPS, Interrupt, dact, pretrained, random_batch, small_model, train
from transformers import AutoModel

from dactcli.errors import RecipeError
from dactcli.recipe.load import load_recipe
from dactcli.results import TrainResult
from dactcli.runs import folders as runs
from dactcli.runs.load import load_run
from dactcli.training.frozen import count_parameters, freeze_for
from dactcli.training.lora import ADAPTER, add_lora, linear_names, merge
from dactcli.training.stages import resolve_stages

peft = pytest.importorskip("peft")

RECIPE = """
task: {name: agreement}
data: {source: builtin, max_length: 48, examples: 64}
model: {encoder: ENCODER, halting_inputs: features, adapter: {rank: 4, dropout: 0.0}}
training:
  batch_size: 16
  learning_rate: 2e-2
  log_steps: 2
  stages:
    - {name: encoder, max_steps: 4}
    - {name: joint, max_steps: 6}
    - {name: units, max_steps: 3}
output: {name: tiny}
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained("bert", tmp_path_factory.mktemp("encoder") / "bert")


def text(encoder: Path) -> str:
    return RECIPE.replace("ENCODER", str(encoder))


def recipe_of(folder: Path, encoder: Path, *overrides: str) -> Any:
    (folder / "recipe.yaml").write_text(text(encoder))
    return load_recipe(folder / "recipe.yaml", overrides)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_and_unmerged_answers_are_equal_and_only_lora_and_heads_train(name: str, tmp_path: Path) -> None:
    model: Any = small_model(name).train()
    recipe = recipe_of(tmp_path, tmp_path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = random_batch(model, [4, 15, 6])
    plain = model.eval().layer_outputs(**batch)
    adapter = add_lora(model, recipe)
    torch.testing.assert_close(model.layer_outputs(**batch), plain, atol=1e-6, rtol=0)  # B starts at zero
    adapted = {key.rpartition(".lora_A")[0] for key, _ in model.encoder.named_parameters() if ".lora_A" in key}
    layers = list(dict.fromkeys(model.adapter.layers))
    targets = sum(isinstance(one, torch.nn.Linear) for layer in layers for _, one in _bare(layer))
    assert len(adapted) == targets > 0
    stage = resolve_stages(recipe)[1]
    freeze_for(model, stage)
    learns = {key for key, value in model.named_parameters() if value.requires_grad}
    assert {key for key in learns if key.startswith("encoder.")} == {
        key for key, _ in model.named_parameters() if "lora_" in key
    }
    assert {key for key, _ in model.named_parameters() if key.startswith("units.")} <= learns
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(3):
        model.train()(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    unmerged = model.eval().layer_outputs(**batch)
    assert (unmerged[0] - plain[0]).abs().max() > 1e-3
    merge(adapter)
    after = model.state_dict()
    assert set(after) == set(before)
    assert any(not torch.equal(after[key], before[key]) for key in after if key.startswith("encoder."))
    torch.testing.assert_close(model.layer_outputs(**batch), unmerged, atol=1e-5, rtol=0)


def _bare(layer: Any) -> Any:
    """The modules of a layer, without those that PEFT put there."""
    return [(key, one) for key, one in layer.named_modules() if "lora_" not in key]


def test_the_linear_modules_of_a_layer_are_found() -> None:
    assert linear_names(small_model("bert")) == [
        "attention.output.dense",
        "attention.self.key",
        "attention.self.query",
        "attention.self.value",
        "intermediate.dense",
        "output.dense",
    ]


def test_a_run_with_lora_is_an_ordinary_run(encoder: Path, tmp_path: Path) -> None:
    result = train(tmp_path, text(encoder))
    run = Path(result.run)
    weights = load_file(run / "model.safetensors")
    assert not any("lora" in name for name in weights)
    base: Any = AutoModel.from_pretrained(encoder).state_dict()
    changed = {
        name.removeprefix("encoder.")
        for name, value in weights.items()
        if name.startswith("encoder.") and not torch.equal(value, base[name.removeprefix("encoder.")])
    }
    assert changed == {
        name for name in base if name.endswith(tuple(f"{one}.weight" for one in linear_names(load_run(run).model)))
    }
    document = json.loads((run / "summary.json").read_text())
    lora = 4 * 4 * (4 * (32 + 32) + 2 * (32 + 48))  # layers, rank, inputs and outputs
    heads = sum(value.numel() for name, value in weights.items() if name.startswith("units."))
    assert document["trainable_parameters"] == lora + heads
    assert document["parameters"] == sum(value.numel() for value in weights.values())
    assert TrainResult.from_json(document).trainable_parameters == lora + heads
    assert (tmp_path / "runs" / "latest").exists()
    for command in (["eval", run, "--split", "validation"], ["inspect", "--run", run, "the dog sees"]):
        assert dact(*command).exit_code == 0
    assert dact("predict", "--run", run, "-", text="the dog sees\n").exit_code == 0
    published = dact("publish", run, "--to", tmp_path / "out")
    assert published.exit_code == 0, published.stderr
    assert not (tmp_path / "out" / ADAPTER).exists()
    assert torch.equal(
        load_file(tmp_path / "out" / "model.safetensors")["encoder.encoder.layer.0.output.dense.weight"],
        weights["encoder.encoder.layer.0.output.dense.weight"],
    )


def test_the_adapter_beside_the_run_gives_its_encoder_with_peft(encoder: Path, tmp_path: Path) -> None:
    run = Path(train(tmp_path, text(encoder)).run)
    merged = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(encoder), run / ADAPTER).merge_and_unload()
    for name, value in load_run(run).model.encoder.state_dict().items():
        torch.testing.assert_close(merged.state_dict()[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 5), (3, 2)])
def test_a_kill_changes_nothing(stage: int, step: int, encoder: Path, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", text(encoder), STEPS)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", text(encoder), STEPS, listener=Interrupt(stage, step))
    begun = runs.unfinished(tmp_path / "killed" / "runs", "tiny")
    resumed = train(tmp_path / "killed", text(encoder), STEPS, resume=begun)
    assert resumed.trainable_parameters == whole.trainable_parameters
    expected = load_file(Path(whole.run) / "model.safetensors")
    found = load_file(Path(resumed.run) / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    adapters = [load_file(Path(one.run) / ADAPTER / "adapter_model.safetensors") for one in (whole, resumed)]
    assert all(torch.equal(adapters[1][name], value) for name, value in adapters[0].items())


def test_units_alone_count_no_encoder_weight(tmp_path: Path) -> None:
    model: Any = small_model("bert")
    recipe = recipe_of(tmp_path, tmp_path, "model.adapter=null", "training.stages=[{name: units}]")
    heads = sum(value.numel() for value in model.exit_heads.parameters())
    assert count_parameters(model, resolve_stages(recipe)) == (model.num_parameters(), heads)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["model.encoder={hidden_size: 32, num_attention_heads: 2}"], "requires a pretrained encoder"),
        (["model.keep_classifier=true"], "exclude each other"),
        (["training.stages=[{name: units}]"], "has no stage that trains it"),
        (["model.adapter=lorra"], 'model.adapter must be lora, a mapping or null, not "lorra"'),
        (["model.adapter={rank: 0}"], "model.adapter.rank must be a whole number of at least 1"),
        (["model.adapter={ranks: 4}"], "model.adapter.ranks is unknown"),
    ],
)
def test_recipes_that_cannot_have_lora(overrides: list[str], fault: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=fault):
        recipe_of(tmp_path, tmp_path, *overrides)


def test_a_rank_above_the_width_is_refused_before_any_work(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model.adapter.rank: is 33, and this encoder is 32 wide; set it to 32"):
        train(tmp_path, text(encoder), "model.adapter={rank: 33}")
    assert not list((tmp_path / "runs").glob("tiny-*"))


def test_without_peft_the_recipe_is_refused_before_any_work(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"peft is not installed.*pip install 'dactcli\[peft\]'"):
        train(tmp_path, text(encoder))
    assert not list((tmp_path / "runs").glob("tiny-*"))


def test_validate_and_the_dry_run_tell_what_is_trained(encoder: Path, tmp_path: Path) -> None:
    recipe_of(tmp_path, encoder)
    plan = json.loads(dact("validate", tmp_path / "recipe.yaml", "--json").stdout)
    assert 0 < plan["trainable_parameters"] < plan["parameters"]
    assert "trains LoRA weights of rank 4 in the encoder and exit heads" in plan["stages"][1]
    dry = dact("finetune", tmp_path / "recipe.yaml", "--dry-run")
    assert "LoRA weights of rank 4" in dry.output
