"""Runs that leave the finite numbers: exit code 4, the step, the examples, and no bad checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import STEPS, TINY, Silence, train

from dactcli.errors import DivergedError
from dactcli.runs.load import load_run
from dactcli.training import trainer as trainer_module
from dactcli.training.checkpoints import newest_valid


@pytest.fixture(scope="session")
def poisoned(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> Path:
    """An encoder in which one word is finite and so large that whatever holds it overflows, and data with it."""
    folder = tmp_path_factory.mktemp("poisoned")
    run = load_run(trained_run)
    run.model.encoder.save_pretrained(folder / "encoder")
    run.tokenizer.save_pretrained(folder / "encoder")
    words = [word for word in run.tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    weights = load_file(folder / "encoder" / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][run.tokenizer.convert_tokens_to_ids(words[0])] = 3e38
    save_file(weights, folder / "encoder" / "model.safetensors", metadata={"format": "pt"})
    rows = [
        {"sentence": f"{words[1 + number % 5]} {words[7 + number % 3]}", "label": number % 2} for number in range(90)
    ]
    rows[41]["sentence"] = f"{words[2]} {words[0]}"
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
    return folder


def recipe(poisoned: Path) -> str:
    return (
        f"data: {{source: files, train: {poisoned}/train.jsonl, validation: {poisoned}/dev.jsonl, max_length: 48}}\n"
        f"model: {{encoder: {poisoned}/encoder, pooling: first}}\n"
        "training: {epochs: 2, batch_size: 8, save_steps: 1}\noutput: {name: tiny}\n"
    )


def test_the_step_and_the_example_are_named(tmp_path: Path, poisoned: Path) -> None:
    listener = Silence()
    with pytest.raises(
        DivergedError, match=r"stage 1-joint, step \d+: the loss on row 42 of train became nan; lower training"
    ) as caught:
        train(tmp_path, recipe(poisoned), listener=listener)
    assert caught.value.exit_code == 4
    folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint"
    last = newest_valid(folder, weights_only=False, notice=print)
    for path in folder.glob("checkpoint-*"):
        assert all(torch.isfinite(value).all() for value in load_file(path / "model.safetensors").values())
    assert last is None or int(last.name.rpartition("-")[2]) < int(str(caught.value.place).rpartition(" ")[2])


def test_gradients_that_are_not_finite_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite in the step, and only its gradient is not."""
    inner = trainer_module.DactTrainer.training_step

    def poison(self: Any, model: Any, inputs: Any, count: Any = None) -> Any:
        loss = inner(self, model, inputs, count)
        if self.state.global_step == 4:
            next(iter(model.encoder.parameters())).grad[0, 0] = torch.inf
        return loss

    monkeypatch.setattr(trainer_module.DactTrainer, "training_step", poison)
    with pytest.raises(DivergedError, match=r"step 5: the gradient on rows [\d, ]+ and 24 more of train became inf"):
        train(tmp_path, TINY, STEPS)
    checkpoints = list((tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint").glob("checkpoint-*"))
    assert [path.name for path in checkpoints] == ["checkpoint-3"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The last step before a save ruins a weight."""

    class Ruin(Silence):
        model: Any = None

        def stepped(self, step: int) -> None:
            if step == 6:
                with torch.no_grad():
                    self.model.units.halting_bias[0] = torch.nan

    listener = Ruin()
    inner = trainer_module.DactTrainer.__init__

    def keep(self: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        listener.model = model
        inner(self, model, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module.DactTrainer, "__init__", keep)
        with pytest.raises(DivergedError, match=r"step 6: units\.halting_bias became nan"):
            train(tmp_path, TINY, STEPS, listener=listener)
    folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint"
    assert {path.name for path in folder.iterdir()} == {"checkpoint-3"}
