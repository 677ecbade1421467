"""A newcomer's path with a file of their own: each step is one that the screen before it named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import dact

WORDS = {"billing": ["invoice", "refund", "charge", "payment"], "technical": ["crash", "screen", "login", "error"]}
ENCODER = "{hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48, dropout: 0.0}"


def write_tickets(path: Path, count: int, *, labelled: bool) -> None:
    lines = ["number,subject,queue" if labelled else "number,subject"]
    for number in range(count):
        queue = ("billing", "technical")[number % 2]
        text = f"please look at the {WORDS[queue][number // 2 % 4]} of order {number % 7}, thank you"
        lines.append(f'{number},"{text}"' + (f",{queue}" if labelled else ""))
    path.write_text("\n".join(lines) + "\n")


def test_from_a_file_of_ones_own_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(Path("tickets.csv"), 400, labelled=True)
    write_tickets(Path("new.csv"), 30, labelled=False)

    assert "own-data" in dact("recipes").stdout
    copied = dact("recipes", "copy", "own-data", "tickets.yaml")
    assert "dact validate tickets.yaml" in copied.stderr
    refused = dact("validate", "tickets.yaml")
    assert refused.exit_code == 2
    assert "texts.csv: there is no such file; did you mean tickets.csv?" in refused.stderr

    recipe = Path("tickets.yaml")
    recipe.write_text(recipe.read_text().replace("train: texts.csv", "train: tickets.csv"))
    refused = dact("validate", "tickets.yaml")
    assert refused.exit_code == 2
    assert "there is no column text among: number, subject, queue; data.text of the recipe names it" in refused.stderr

    text = recipe.read_text().replace("text: text ", "text: subject ").replace("label: label ", "label: queue ")
    recipe.write_text(text.replace("bert-base-uncased", ENCODER))
    valid = dact("validate", "tickets.yaml")
    assert valid.exit_code == 0, valid.stderr
    assert "the recipe is valid" in valid.stdout
    assert "examples repeat an earlier one" in valid.stderr

    faster = ("training.learning_rate=3e-3", "training.epochs=5", "training.mask_tokens=0")
    # so few validation texts cannot tell epochs apart, and of equal ones the first would be kept
    small = [part for key in (*faster, "training.keep=last") for part in ("--set", key)]
    trained = dact("finetune", "tickets.yaml", *small)
    assert trained.exit_code == 0, trained.stderr
    assert "runs/own-data-1" in trained.stdout
    assert dact("eval", "--calibrate", "budget=2.0").exit_code == 0
    judged = json.loads(dact("eval", "--json").stdout)
    assert judged["rules"]["full"]["metric"] > 0.9
    assert dact("profile", "--batch-size", "4", "--examples", "8", "--repeats", "2").exit_code == 0
    assert "billing" in dact("inspect", "the invoice of my order is wrong").stdout
    assert dact("predict", "new.csv", "--output", "answers.csv").exit_code == 0
    answers = Path("answers.csv").read_text().splitlines()
    assert answers[0] == "number,subject,label,label_id,probabilities,exit_layer"
    right = [("billing", "technical")[index % 2] in line for index, line in enumerate(answers[1:])]
    assert len(right) == 30
    assert sum(right) >= 27
    assert "runs/own-data-1 *" in dact("runs").stdout
