"""`dact inspect`: labels, full depth, choosing and sorting, a summary, standard input, and exported views."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import TINY, dact

from dactcli.data.agreement import generate

EXAMPLES = generate(train=80)["train"][:30]
RULE = ("--rule", "max_prob:0.55")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "some.jsonl"
    rows = [{"sentence": one.sentence, "label": one.label} for one in EXAMPLES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def looked(*arguments: object) -> list[dict[str, Any]]:
    done = dact("inspect", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_labels_and_full_depth(tiny_run: Path, labelled: Path) -> None:
    found = looked("--file", labelled, "--run", tiny_run, *RULE, "--verify")
    assert [one["expected_name"] for one in found] == [
        ["unacceptable", "acceptable"][example.label] for example in EXAMPLES
    ]
    full = looked("--file", labelled, "--run", tiny_run, "--rule", "full")
    for one, deep in zip(found, full, strict=True):
        assert one["full_answer"] == pytest.approx(deep["probabilities"], abs=1e-5)
        assert 1 <= one["settled"] <= one["exit_layer"]
    plain = looked(EXAMPLES[0].sentence, "--run", tiny_run)
    assert (plain[0]["expected"], plain[0]["full_answer"]) == (None, None)


def test_choosing_and_sorting(tiny_run: Path, labelled: Path) -> None:
    arguments = ("--file", labelled, "--run", tiny_run, *RULE)
    every = looked(*arguments)
    wrong = looked(*arguments, "--only", "wrong")
    assert [one["text"] for one in wrong] == [one["text"] for one in every if one["label"] != one["expected"]]
    assert 0 < len(wrong) < len(every)
    deep = looked(*arguments, "--only", "deep")
    assert {one["exit_layer"] for one in deep} <= {3}
    by_depth = [one["exit_layer"] for one in looked(*arguments, "--sort", "depth", "--limit", "7")]
    assert by_depth == sorted((one["exit_layer"] for one in every), reverse=True)[:7]
    closest = looked(*arguments, "--sort", "margin", "--limit", "1")[0]
    assert max(closest["probabilities"]) == min(max(one["probabilities"]) for one in every)
    worst = looked(*arguments, "--sort", "loss", "--limit", "1")[0]
    assert worst["probabilities"][worst["expected"]] == min(one["probabilities"][one["expected"]] for one in every)
    for one in looked(*arguments, "--only", "disagree"):
        assert one["full_answer"].index(max(one["full_answer"])) != one["label"]


def test_a_summary_stands_above_several(tiny_run: Path, labelled: Path) -> None:
    shown = dact("inspect", "--file", labelled, "--run", tiny_run, *RULE, "--verify", "--limit", "2").stdout
    for part in (
        "30 examples",
        "of 3 layers on average",
        "always answering the most frequent label",
        "agree with full depth",
        "closest call",
        "2 shown",
    ):
        assert part in shown
    assert shown.count("tokens ─") == 2
    alone = dact("inspect", EXAMPLES[0].sentence, "--run", tiny_run).stdout
    assert "closest call" not in alone


def test_standard_input(tiny_run: Path) -> None:
    done = dact("inspect", "-", "--run", tiny_run, "--json", text="the key is old .\nthe keys is old .\n")
    assert [one["text"] for one in json.loads(done.stdout)] == ["the key is old .", "the keys is old ."]


def test_exported_views(tiny_run: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "view.html", tmp_path / "view.svg"
    done = dact("inspect", "the key is <b>old</b> .", "--run", tiny_run, "--html", page, "--svg", picture)
    assert done.exit_code == 0
    assert f"written to {page}" in done.stderr
    assert "the key is &lt;b&gt;old&lt;/b&gt; ." in page.read_text()
    assert "<b>old" not in page.read_text()
    assert page.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg")
    refused = dact("inspect", "a", "--run", tiny_run, "--svg", page / "view.svg")
    assert refused.exit_code == 5
    assert "cannot be written" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--only", "wrong"), "--only wrong: needs labels; give --file with a label column"),
        (("--sort", "loss"), "--sort loss: needs labels"),
        (("--sort", "deepth"), "--sort: 'deepth' is unknown; did you mean depth?"),
        (("--only", "rong"), "--only: 'rong' is unknown; did you mean wrong?"),
    ],
)
def test_what_does_not_fit(tiny_run: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = dact("inspect", "a text", "--run", tiny_run, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_a_calibrated_rule_says_what_is_promised(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert dact("eval", run, "--calibrate", "budget=1.5").exit_code == 0
    texts = [one.sentence for one in EXAMPLES]
    whole = " ".join(dact("inspect", *texts, "--run", run).stdout.replace("│", " ").split())
    assert "calibrated: settled:" in whole
    assert "promises nothing about the answers" in whole


@pytest.mark.parametrize("text", ["-5 stars, bad", "-bad", "-- great", "--- no", "-1", "-é", "--great film", "-5"])
def test_a_text_may_begin_with_a_dash(tiny_run: Path, text: str) -> None:
    done = dact("inspect", "first .", text, "--run", tiny_run, "last .", "--json")
    assert done.exit_code == 0, done.stderr
    assert [entry["text"] for entry in json.loads(done.stdout)] == ["first .", text, "last ."]


def test_what_may_be_a_misspelt_option_is_no_text(tiny_run: Path) -> None:
    near = dact("inspect", "a", "--vrify", "--run", tiny_run)
    assert (near.exit_code, "there is no option --vrify; did you mean --verify?" in near.stderr) == (2, True)
    short = dact("inspect", "-x", "--run", tiny_run)
    assert (short.exit_code, "write -- before an argument that begins with a dash" in short.stderr) == (2, True)
    behind = dact("inspect", "--run", tiny_run, "--json", "--", "-x", "--verify", "--")
    assert [entry["text"] for entry in json.loads(behind.stdout)] == ["-x", "--verify", "--"]
    valued = dact("inspect", "a", "--pair", "-5 stars", "--run", tiny_run)
    assert "--pair: this model takes single texts" in valued.stderr
    assert "there is no text to inspect" in dact("inspect", "--run", tiny_run).stderr


def test_an_option_takes_a_value_that_begins_with_a_dash(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    changed = dact("finetune", recipe, "--dry-run", "--set", "task.labels=['-x', -y]", "--json")
    assert json.loads(changed.stdout)["recipe"]["task"]["labels"] == ["-x", "-y"]
    odd = dact("finetune", recipe, "--dry-run", "--set", "-x")
    assert (odd.exit_code, "-x" in odd.stderr) == (2, True)
    files = dact("runs", "-5")
    assert (files.exit_code, "write -- before an argument that begins with a dash" in files.stderr) == (2, True)
    assert dact("runs", "--", "-5").exit_code == 0
