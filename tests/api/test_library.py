"""The commands as functions, and the example script."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TINY, dact

import dactcli
from dactcli.data.agreement import generate
from dactcli.errors import ArtefactError, UsageError

ROOT = Path(__file__).parents[2]
TEXTS = ["the key is old .", "the keys to the cabinet is old ."]


def test_from_a_recipe_to_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    result = dactcli.fit("tiny.yaml", overrides=["training.seed=3"])
    assert result.run == "runs/tiny-1"
    answers = dactcli.predict(TEXTS)
    assert [answer.label in ("acceptable", "unacceptable") for answer in answers] == [True, True]


def test_functions_say_what_commands_say(tiny_run: Path) -> None:
    run = dactcli.open_run(tiny_run)
    judged = dactcli.evaluate(run, split="test", rules=["full", "exact"]).to_json()
    shown = json.loads(dact("eval", tiny_run, "--split", "test", "--rule", "full", "--rule", "exact", "--json").stdout)
    assert judged["rules"]["exact"] == shown["rules"]["exact"]
    traces = [one.to_json() for one in dactcli.inspect(TEXTS, run=run, rule="max_prob:0.6", verify=True)]
    looked = dact("inspect", *TEXTS, "--run", tiny_run, "--rule", "max_prob:0.6", "--verify", "--json").stdout
    assert traces == json.loads(looked)
    answers = dactcli.predict(TEXTS, run=str(tiny_run), rule="max_prob:0.6")
    assert [one.exit_layer for one in answers] == [one["exit_layer"] for one in traces]
    timed = dactcli.profile(run, batch_sizes=[2], examples=8, repeats=2)
    assert timed.cases[0].batch_size == 2
    assert timed.cases[0].adaptive.layers_mean == pytest.approx(timed.throughput[0].adaptive.layers_mean)


def test_nothing_is_printed_in_a_process_of_ones_own(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    script = (
        "import dactcli, sys\ndactcli.fit('tiny.yaml', overrides=['data.examples=64'])\n"
        "run = dactcli.open_run(sys.argv[1])\n"
        "dactcli.predict(['the key is old .'], run=run)\n"
        "dactcli.profile(run, batch_sizes=[2], examples=4, repeats=2)\n"
    )
    command = [sys.executable, "-c", script, str(tiny_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=600)
    assert done.stdout == done.stderr == ""


def test_errors_are_the_same_and_nothing_is_printed(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtefactError, match="no such run"):
        dactcli.open_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match="`rule`: rule 'exat' is unknown; did you mean exact?"):
        dactcli.predict(TEXTS, run=tiny_run, rule="exat")
    capsys.readouterr()
    dactcli.predict(TEXTS, run=tiny_run)
    assert capsys.readouterr().out == ""


def test_the_example_script(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.parent, tmp_path / "runs", symlinks=True)
    script = ROOT / "docs" / "examples" / "depths.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[-1] == "full depth agrees"  # the run's own rule is sound


def test_a_file_brings_its_own_column_names(tiny_run: Path, tmp_path: Path) -> None:
    """The figures are those of the same rows under the recipe's names; each function that takes a file does so."""
    rows = [(one.sentence, ["unacceptable", "acceptable"][one.label]) for one in generate(train=80)["train"][:30]]
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    own.write_text("sentence,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    # the recipe's columns are there as well, with other contents
    other.write_text("review,stars,sentence,label\n" + "".join(f'"{text}",{label},x,\n' for text, label in rows))
    columns: dict[str, Any] = {"data": other, "text": "review", "label": "stars"}
    known = dactcli.evaluate(tiny_run, data=own, rules=["exact"])
    assert dactcli.evaluate(tiny_run, rules=["exact"], **columns).rules == known.rules
    assert dactcli.compare(tiny_run, **columns).rules == dactcli.compare(tiny_run, data=own).rules
    printed = dact(
        "eval", tiny_run, "--data", other, "--text", "review", "--label", "stars", "--rule", "exact", "--json"
    )
    assert json.loads(printed.stdout)["rules"]["exact"]["metric"] == known.rules["exact"].metric
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    goal = dactcli.BudgetRequest(1.5)
    assert dactcli.calibrate(run, goal=goal, **columns).examples == 30


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--data", "FILE", "--text", "revew"), "there is no column revew among: review, stars; did you mean review?"),
        (("--data", "FILE", "--text", "review", "--label", "x"), "no column x among: review, stars; name one of these"),
        (("--data", "FILE", "--text", "review", "--pair", "stars"), "--pair: this model takes single texts"),
        (("--text", "review"), "--text: names a column of a file; add --data FILE, or leave it out"),
        (("--label", "stars", "--compare"), "--label: names a column of a file; add --data FILE"),
        (("--pair", "stars", "--calibrate", "budget=2"), "--pair: names a column of a file; add --data FILE"),
    ],
)
def test_a_column_that_is_not_there(arguments: tuple[str, ...], sentence: str, tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("review,stars\na key,acceptable\n")
    done = dact("eval", tiny_run, *(str(file) if one == "FILE" else one for one in arguments))
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.stderr
