"""Commands with an export for a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import dact, shared

from dactcli.api.export import export
from dactcli.api.predict import predict, predict_files
from dactcli.errors import ArtefactError, UsageError

pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")

from exports import TEXTS, apart, halving_rule, saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its export."""
    home = tmp_path_factory.mktemp("exports")
    run = saved(home / "run", layers=3)
    export(run, to=home / "out", rule=halving_rule(run))
    return shared(home)


def rule_of(folder: Path) -> str:
    return str(json.loads((folder / "out" / "dact.json").read_text())["rule"]["text"])


def test_texts_in_memory(folder: Path) -> None:
    found, wanted = predict(TEXTS, run=folder / "out"), predict(TEXTS, run=folder / "run", rule=rule_of(folder))
    assert [(one.label, one.exit_layer) for one in found] == [(one.label, one.exit_layer) for one in wanted]
    assert apart([one.probabilities for one in found], [one.probabilities for one in wanted]) < 1e-4
    assert [one.top(1)[0][0] for one in found] == [one.label for one in wanted]


def test_files_are_answered_and_resumed(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"sentence": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)))
    answers = {}
    for name, rule in (("run", rule_of(folder)), ("out", None)):
        out = tmp_path / f"{name}.jsonl"
        done = predict_files([str(source)], run=folder / name, output=out, rule=rule)
        assert (done.rule, done.predictions) == (rule_of(folder), len(TEXTS))
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        answers[name] = [(row["n"], row["label"], row["exit_layer"]) for row in rows]
    assert answers["out"] == answers["run"]
    again = dact("predict", source, "--run", folder / "out", "--output", tmp_path / "out.jsonl", "--resume")
    assert again.exit_code == 0
    assert "is complete" in again.stderr


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rule": "exact"}, "`rule` exact: this export halts by confidence:"),
        ({"max_layers": 2}, "`max_layers`: an export has no cap on its layers"),
        ({"device": "cuda"}, "`device` cuda: an export runs on the processor"),
    ],
)
def test_what_an_export_cannot_do_is_one_sentence(fields: dict[str, Any], sentence: str, folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        predict(["the key"], run=folder / "out", **fields)
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "RUN"],
        ["eval", "RUN", "--calibrate", "risk=0.1"],
        ["inspect", "the key", "--run", "RUN"],
        ["profile", "RUN"],
        ["report", "RUN"],
        ["publish", "RUN", "--to", "there"],
        ["export", "RUN", "--to", "there"],
    ],
)
def test_other_commands_say_that_they_take_runs(
    command: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = dact(*(str(folder / "out") if word == "RUN" else word for word in command))
    assert result.exit_code == ArtefactError.exit_code
    told = " ".join(result.stderr.split())
    assert "is an export, which dact predict takes alone; give the run that it was made from" in told
    assert list(tmp_path.iterdir()) == []
