"""Fine-tuning: run folders, stages, resuming to identical weights, divergence, and what a run leaves behind."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import STEPS, TINY, Interrupt, Silence, train

from dactcli.errors import DivergedError, RecipeError, ResourceError, UsageError
from dactcli.recipe.load import load_recipe
from dactcli.runs import folders as runs
from dactcli.runs.load import load_run
from dactcli.training.callbacks import keep_lines_until
from dactcli.training.stages import resolve_stages
from dactcli.training.trainer import DactTrainer


def weights(run: str | Path) -> Any:
    return load_file(Path(run) / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a | b)


def test_a_run_leaves_what_the_interface_promises(tiny_run: Path) -> None:
    assert (tiny_run.parent / "latest").resolve() == tiny_run
    assert {path.name for path in tiny_run.iterdir()} - {"outputs"} == {
        "config.json",
        "eval.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.yaml",
        "summary.json",
        "tensorboard",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert summary["steps"] == 20
    assert summary["versions"]["torch"] == torch.__version__
    assert set(summary["data_fingerprint"]) == {"train", "validation", "calibration", "test"}
    assert list(summary["evaluation"]["validation"]["rules"]) == ["full", "paper", "exact"]
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10] * 2
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert all("layers_mean" in line for line in lines if line["stage"] == "2-units" and "loss" in line)
    assert list((tiny_run / "tensorboard").rglob("events*"))


def test_the_recipe_of_a_run_can_be_run_again_to_the_same_weights(tiny_run: Path, tmp_path: Path) -> None:
    again = train(tmp_path, (tiny_run / "recipe.yaml").read_text())
    assert same(weights(tiny_run), weights(again.run))
    other = train(tmp_path, (tiny_run / "recipe.yaml").read_text(), "training.seed=1")
    assert not same(weights(tiny_run), weights(other.run))
    assert Path(other.run).name == "tiny-2"


def test_a_run_loads_with_what_it_was_trained_for(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    assert run.model.config.objective == "dact"
    assert run.model.config.rule == "exact"
    assert run.model.config.id2label == {0: "unacceptable", 1: "acceptable"}
    assert run.tokenizer.model_max_length == 48
    assert run.recipe is not None
    assert run.recipe.output.name == "tiny"


def test_units_are_trained_and_the_encoder_is_not_in_a_units_stage(tmp_path: Path) -> None:
    class Snapshots(Silence):
        def evaluated(self, result: Any) -> None:
            folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint" / "done"
            if folder.is_dir():
                self.before = weights(folder)

    listener = Snapshots()
    after = weights(train(tmp_path, TINY, listener=listener).run)
    changed = {key.split(".")[0] for key in after if not torch.equal(after[key], listener.before[key])}
    assert changed == {"units"}


@pytest.mark.parametrize(("stage", "step"), [(1, 2), (1, 7), (2, 1), (2, 9)])
def test_resuming_gives_the_weights_of_a_run_that_was_never_interrupted(
    tiny_run: Path, tmp_path: Path, stage: int, step: int
) -> None:
    every_five = ["training.save_steps=5"]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TINY, *every_five, listener=Interrupt(stage, step))
    folder = tmp_path / "runs"
    unfinished = runs.unfinished(folder, "tiny")
    assert unfinished is not None
    assert not (folder / "latest").exists()
    result = train(tmp_path, TINY, *every_five, resume=unfinished)
    assert result.resumed
    assert result.run == str(unfinished)
    assert same(weights(tiny_run), weights(unfinished))
    assert runs.unfinished(folder, "tiny") is None
    lines = [json.loads(line) for line in (unfinished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10] * 2


def test_a_changed_recipe_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, listener=Interrupt(1, 2))
    unfinished = runs.unfinished(tmp_path / "runs", "tiny")
    with pytest.raises(RecipeError, match="the recipe has changed since this run began"):
        train(tmp_path, TINY, "training.seed=3", resume=unfinished)


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    """One batch of 32 equals two of 16: the same data in the same order, without dropout."""
    text = TINY.replace("{name: joint, tau: null, epochs: 1}", "{name: joint, epochs: 1}")
    text = text.replace("    - {name: units, epochs: 1, unit_learning_rate: 1e-2}\n", "").replace(
        "examples: 320", "examples: 32"
    )
    whole = weights(train(tmp_path, text).run)
    halves = weights(train(tmp_path, text, "training.batch_size=16", "training.accumulate=2").run)
    for key, value in whole.items():
        torch.testing.assert_close(halves[key], value, atol=1e-5, rtol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"stage 1-joint, step \d+: .* became .*; lower training.learning_rate"
    ) as caught:
        train(tmp_path, TINY, "training.learning_rate=1e30", "training.warmup=0", "training.clip=1e30")
    assert caught.value.exit_code == 4
    run = tmp_path / "runs" / "tiny-1"
    assert not (run / "model.safetensors").exists()
    assert not (tmp_path / "runs" / "latest").exists()


def test_plain_fine_tuning_has_full_depth_only(tmp_path: Path) -> None:
    text = TINY[: TINY.index("  stages:")] + "  epochs: 1\noutput: {name: plain}\ndact: null\n"
    result = train(tmp_path, text)
    assert list(result.evaluation["validation"].rules) == ["full"]
    run = load_run(Path(result.run))
    assert run.model.config.objective == "last"
    assert run.model.config.rule is None


def stages_of(tmp_path: Path, text: str) -> list[Any]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return resolve_stages(load_recipe(path))


def test_stages_inherit_and_override(tmp_path: Path) -> None:
    first, second = stages_of(tmp_path, TINY)
    assert (first.loss.objective, second.loss.objective) == ("layers", "dact")
    assert (first.keys.learning_rate, first.keys.unit_learning_rate) == (1e-3, 5e-4)
    assert (second.keys.unit_learning_rate, second.loss.tau) == (1e-2, 0.05)
    (joint,) = stages_of(
        tmp_path,
        TINY.replace("    - {name: units, epochs: 1, unit_learning_rate: 1e-2}\n", "").replace("tau: null, ", ""),
    )
    assert [joint.loss_at(step, 100).tau for step in (0, 29, 30, 99)] == [0.0, 0.0, 0.05, 0.05]
    assert second.loss_at(0, 100).tau == 0.05  # the layers are trained when the units' own stage begins
    (encoder,) = stages_of(tmp_path, TINY[: TINY.index("    - {name: joint")] + "    - {name: encoder}\n")
    assert encoder.loss.objective == "last"


def test_outputs_that_cannot_be_written_are_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    listener = Silence()
    with pytest.raises(ResourceError, match="the output folder cannot be written"):
        train(tmp_path, listener=listener)
    assert not listener.heard


def test_training_is_deterministic_without_launch_blocking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "")  # so that the environment is what it was afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    torch.use_deterministic_algorithms(False)
    train(tmp_path, TINY, "data.examples=16")
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert "CUDA_LAUNCH_BLOCKING" not in os.environ
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_half_precision_needs_cuda(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="model.dtype: is float16, which trains on CUDA only"):
        train(tmp_path, TINY, "model.dtype=float16")


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
def test_bfloat16_trains_on_the_cpu(tmp_path: Path, pooling: str) -> None:
    result = train(tmp_path, TINY, "model.dtype=bfloat16", "data.examples=64", f"model.pooling={pooling}")
    assert all(value.dtype == torch.float32 for value in weights(result.run).values())
    assert not same(weights(result.run), weights(train(tmp_path, TINY, "data.examples=64").run))


FILES = """
task: {name: opinions}
data: {source: files, train: train.jsonl, validation: 0.25, test: test.jsonl, text: a, text_pair: b, label: verdict}
model: {encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16, vocab_size: 99}}
training: {epochs: 1, batch_size: 8}
"""


def test_a_learned_vocabulary_is_the_same_in_every_process(tmp_path: Path) -> None:
    script = (
        "from dactcli.training.build import _learn_words\nfrom dactcli.recipe.schema import Geometry\n"
        "print(_learn_words(Geometry(vocab_size=40), ['the Cats sat', 'the dogs ran , ran', 'a cat']))"
    )
    runs_of = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600).stdout
        for _ in range(2)
    ]
    assert runs_of[0] == runs_of[1]
    assert "'ran', 'the', 'cat', 'cats'" in runs_of[0]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("evaluation.rules=[exakt]", "evaluation.rules: rule 'exakt' is unknown; did you mean exact?"),
        ("evaluation.rules=[entropy]", "evaluation.rules: rule entropy needs a threshold"),
    ],
)
def test_rules_are_checked_before_training(tmp_path: Path, override: str, sentence: str) -> None:
    listener = Silence()
    with pytest.raises(UsageError, match=re.escape(sentence)):
        train(tmp_path, TINY, override, listener=listener)
    assert not [name for name, _ in listener.heard if name == "stage_started"]


def test_a_torn_log_line_is_dropped(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"stage": "1-joint", "step": 1}\n{"stage": "1-joint", "step": 2}\n{"stage": "1-jo')
    keep_lines_until(log, "1-joint", 1)
    assert log.read_text() == '{"stage": "1-joint", "step": 1}\n'


def test_own_files_with_pairs_and_named_labels(tmp_path: Path) -> None:
    rows = [{"a": f"one {n % 7}", "b": f"two {n % 5}", "verdict": ["no", "maybe", "yes"][n % 3]} for n in range(48)]
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = train(tmp_path, FILES)
    run = load_run(Path(result.run))
    assert run.model.config.id2label == {0: "maybe", 1: "no", 2: "yes"}
    assert result.evaluation["validation"].examples == 12
    assert run.recipe is not None
    assert run.recipe.task.labels == ["maybe", "no", "yes"]  # belong to the model, whatever the data become


def test_regression_with_its_own_rule(tmp_path: Path) -> None:
    rows = [{"sentence": f"word {n % 11}", "label": (n % 11) / 2} for n in range(48)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = FILES.replace("opinions}", "scores, metric: pearson, range: [0, 5]}")
    text = text.replace(", test: test.jsonl, text: a, text_pair: b, label: verdict", "")
    result = train(tmp_path, text, "training.epochs=8", "training.learning_rate=1e-3")
    judged = result.evaluation["validation"]
    assert list(judged.rules) == ["full", "tolerance"]
    assert judged.metric == "pearson"
    assert judged.rules["tolerance"].agreement_with_full == 1.0


def test_a_roberta_from_scratch(tmp_path: Path) -> None:
    result = train(tmp_path, TINY, "model.encoder.model_type=roberta", "data.examples=64")
    assert load_run(Path(result.run)).model.config.encoder_config.model_type == "roberta"


def test_run_names_count_up_and_ignore_others(tmp_path: Path) -> None:
    for name in ("cola-1", "cola-9", "cola-x", "cola-plain-12"):
        (tmp_path / name).mkdir()
    assert runs.new_run(tmp_path, "cola").name == "cola-10"
    assert [run.name for run in runs.runs_named(tmp_path, "cola")] == ["cola-1", "cola-9", "cola-10"]


def test_some_tokens_are_hidden_and_never_special_ones() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 50, (64, 40))
    ids[:, 0], ids[:, -5:] = 2, 0
    before = ids.clone()
    held = SimpleNamespace(
        stage=SimpleNamespace(keys=SimpleNamespace(mask_tokens=0.25)), special=torch.tensor([0, 2]), mask_token=4
    )
    DactTrainer._hide_tokens(held, ids)  # type: ignore[arg-type]
    changed = ids != before
    assert (ids[changed] == 4).all()
    assert not changed[:, 0].any()
    assert not changed[:, -5:].any()
    assert 0.2 < changed[:, 1:-5].float().mean() < 0.3


def test_hidden_tokens_are_the_same_after_a_resume(tmp_path: Path) -> None:
    options = [STEPS, "training.mask_tokens=0.3"]
    whole = weights(train(tmp_path / "a", TINY, *options).run)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", TINY, *options, listener=Interrupt(1, 5))
    unfinished = runs.unfinished(tmp_path / "b" / "runs", "tiny")
    again = weights(train(tmp_path / "b", TINY, *options, resume=unfinished).run)
    assert same(whole, again)
    assert not same(whole, weights(train(tmp_path / "c", TINY, STEPS).run))


def test_a_tokenizer_without_a_mask_token_cannot_hide_any(tmp_path: Path, tiny_run: Path) -> None:
    run, folder = load_run(tiny_run), tmp_path / "encoder"
    run.model.encoder.save_pretrained(folder)
    run.tokenizer.mask_token = None
    run.tokenizer.save_pretrained(folder)
    text = TINY.replace(TINY[TINY.index("  encoder:") : TINY.index("  pooling")], f"  encoder: {folder}\n")
    with pytest.raises(RecipeError, match="training.mask_tokens: masks tokens, but this encoder's tokenizer has no"):
        train(tmp_path, text, "training.mask_tokens=0.1")


def test_alternating_steps_train_the_last_layer_and_all_layers(tmp_path: Path) -> None:
    (joint,) = stages_of(tmp_path, TINY[: TINY.index("  stages:")] + "dact: {tau: null, layer_loss: alternate}\n")
    assert [joint.loss_at(step, 10).objective for step in range(4)] == ["layers", "last", "layers", "last"]
    text = TINY.replace("dact: {", "dact: {layer_loss: alternate, ")
    run = load_run(Path(train(tmp_path, text, "training.max_steps=3").run))
    assert run.model.config.objective == "dact"


def test_distillation_alone_trains_the_early_layers(tmp_path: Path) -> None:
    """FastBERT: the plain encoder first, then every layer's answer from the last one's, which stays as it is."""
    stages = "  stages: [{name: encoder, max_steps: 3}, {name: units, max_steps: 3}]\n"
    text = (
        TINY[: TINY.index("  stages:")]
        + stages
        + "dact: {tau: null, layer_loss: none, distill: 1.0}\noutput: {name: tiny}\n"
    )

    class Snapshots(Silence):
        def evaluated(self, result: Any) -> None:
            folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-encoder" / "done"
            if folder.is_dir():
                self.before = weights(folder)

    listener = Snapshots()
    after = weights(train(tmp_path, text, listener=listener).run)
    moved = (after["units.classifier_weight"] - listener.before["units.classifier_weight"]).abs().amax((1, 2))
    assert (moved[:-1] > 1e-4).all()
