"""`dact predict --processes`: the command again, in several processes that share its work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment
from support import dact, train

from dactcli.cli.processes import without_option
from dactcli.data.agreement import generate


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["predict", "a.csv", "--processes", "2", "--run", "x"], ["predict", "a.csv", "--run", "x"]),
        (["predict", "--processes=4", "a.csv"], ["predict", "a.csv"]),
        (["predict", "a.csv"], ["predict", "a.csv"]),
    ],
)
def test_the_words_of_each_process(words: list[str], left: list[str]) -> None:
    assert without_option(words) == left


def test_two_processes_answer_as_one(tmp_path: Path) -> None:
    run = Path(train(tmp_path / "run").run)
    source = tmp_path / "texts.jsonl"
    rows = [{"sentence": one.sentence, "id": n} for n, one in enumerate(generate(train=90)["train"])]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["predict", str(source), "--run", str(run), "--rule", "max_prob:0.6", "--device", "cpu"]
    assert dact(*words, "--output", tmp_path / "one.jsonl").exit_code == 0
    command = [sys.executable, "-m", "dactcli", *words, "--processes", "2", "--output", str(tmp_path / "two.jsonl")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found, wanted = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("two", "one")
    )
    names = ("sentence", "id", "label", "exit_layer")
    assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in wanted]
    missing = subprocess.run(
        [*command[:4], str(tmp_path / "gone.jsonl"), *command[5:]],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert missing.returncode == 2
    assert "there is no such file" in missing.stderr


def test_ray_has_workers_of_its_own(tmp_path: Path) -> None:
    done = dact("predict", tmp_path / "a.csv", "--engine", "ray", "--output", tmp_path / "out", "--processes", "2")
    assert done.exit_code == 2
    assert "--engine ray: starts workers of its own; use --workers" in done.stderr
