"""Commands with an export for a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import dact, shared, tiny_on_files, train

import dactcli
from dactcli.api.export import export
from dactcli.api.predict import predict, predict_files
from dactcli.errors import ArtefactError, UsageError
from dactcli.runtime.tokens import IDS, Tokens

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


def test_batches_of_an_export_have_at_most_so_many_tokens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, padded = tmp_path / "texts.txt", Tokens.batches
    sizes: list[int] = []
    source.write_text("".join(f"{text}\n" for text in TEXTS * 4))

    def seen(tokens: Tokens, most: int) -> Any:
        for positions, rows in padded(tokens, most):
            sizes.append(rows[IDS].size)
            yield positions, rows

    monkeypatch.setattr(Tokens, "batches", seen)
    answers = []
    for most in (None, 64):
        sizes.clear()
        out = tmp_path / f"{most}.jsonl"
        predict_files([str(source)], run=folder / "out", output=out, batch_tokens=most)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        answers.append([(row["label"], row["exit_layer"]) for row in rows])
    assert answers[0] == answers[1]
    assert max(sizes) <= 64
    assert len(sizes) > 1


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
    assert "is an export, and this needs the run; give the run that it was made from" in told
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, its data, and its export in float32 with a certificate."""
    home = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = Path(
            train(home, tiny_on_files("calibration.jsonl").replace("dact:", "evaluation: {risk: null}\ndact:")).run
        )
        (home / "runs" / "latest").unlink()
        run.rename(home / "runs" / "tiny")
        export("runs/tiny", to="out", risk=0.2, delta=0.1)
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own copy of it, as the current folder."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def test_an_export_is_evaluated_as_its_run_is(home: Path) -> None:
    before = sorted(path.name for path in (home / "out").iterdir())
    found = dactcli.evaluate("out", split="validation")
    certified = json.loads((home / "out" / "dact.json").read_text())["certificate"]["rule"]
    wanted = dactcli.evaluate("runs/tiny", split="validation", rules=[*found.rules][1:])
    assert certified in found.rules
    assert found.examples == wanted.examples
    for name, rule in wanted.rules.items():
        assert found.rules[name].metrics == rule.metrics
        assert found.rules[name].depths == rule.depths
    assert found.rules["full"].metrics == dactcli.evaluate("runs/tiny", split="validation").rules["full"].metrics
    assert sorted(path.name for path in (home / "out").iterdir()) == before
    result = dact("eval", "out", "--data", "calibration.jsonl", "--rule", "exact", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rules"]["exact"]["agreement_with_full"] == 1


def test_an_export_is_inspected_as_its_run_is(home: Path) -> None:
    texts = ["the key to the cabinets is rusty .", "the keys are old ."]
    found = dactcli.inspect(texts, run="out", verify=True)
    wanted = dactcli.inspect(texts, run="runs/tiny", rule=found[0].rule, verify=True)
    for one, other in zip(found, wanted, strict=True):
        assert (one.exit_layer, one.label, one.tokens, one.cut) == (
            other.exit_layer,
            other.label,
            other.tokens,
            other.cut,
        )
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
        assert one.halting_weights == pytest.approx(other.halting_weights, abs=1e-4)
        assert one.full_answer == pytest.approx(other.full_answer, abs=1e-4)
    assert "PyTorch model" in (found[0].promise or "")
    result = dact("inspect", texts[0], "--run", "out")
    assert result.exit_code == 0, result.stderr
    with pytest.raises(UsageError, match="an export runs on the processor"):
        dactcli.inspect(texts, run="out", device="cuda")


def test_an_export_is_certified_again(home: Path) -> None:
    before = dactcli.inspect(["the key"], run="out")[0].rule
    result = dact("eval", "out", "--calibrate", "risk=0.3,delta=0.1", "--replace", "--json")
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((home / "out" / "dact.json").read_text())
    assert manifest["certificate"]["epsilon"] == 0.3
    assert manifest["rule"]["text"] == manifest["certificate"]["rule"] == json.loads(result.stdout)["rule"]
    assert manifest["rule"]["cut"] <= float(before.partition(":")[2])  # more risk, no deeper
    assert predict(["the key"], run="out")[0].exit_layer is not None
    told = dact("eval", "out", "--calibrate", "risk=0.4,delta=0.1")
    assert "its risk is larger; the certificate of" in " ".join(told.stderr.split())
    assert json.loads((home / "out" / "dact.json").read_text()) == manifest


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [
        (dactcli.BudgetRequest(2.0), "a budget is for runs"),
        (dactcli.RiskRequest(0.2, rules=("max_prob",)), "whose score is in its graphs"),
    ],
)
def test_what_cannot_be_certified_again(goal: Any, sentence: str, home: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        dactcli.calibrate("out", goal)


def test_an_export_is_timed_beside_its_run(home: Path) -> None:
    result = dact("profile", "out", "--examples", "6", "--repeats", "2", "--warmup", "1", "--batch-size", "1,4")
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.split())
    assert "ONNX Runtime, float32; rule settled" in shown
    assert "export/stock: time of the export over that of ONNX Runtime's stock" in shown
    found = dactcli.profile("out", examples=6, repeats=2, warmup=1, batch_sizes=[4], threads=1)
    assert found.environment["onnxruntime"]
    for case in [*found.cases, *found.throughput]:
        assert case.onnx is not None
        # the same rule on the same examples, by two programs
        assert case.rule == case.onnx.rule
        assert case.onnx.export.depths == case.adaptive.depths
        assert case.onnx.export.layers_mean == case.adaptive.layers_mean
        assert len(case.onnx.stock.samples_ms) == len(case.stock.samples_ms)
        assert case.onnx.time_ratio_to_onnx_stock.value > 0
    assert dactcli.profile("runs/tiny", examples=4, repeats=2, warmup=0, batch_sizes=[4]).cases[0].onnx is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rule": "exact"}, "`rule`: cannot be combined with an export, which halts by its own rule"),
        ({"depths": "1,2"}, "`depths`: cannot be combined with an export"),
        ({"train": True}, "`train`: an export cannot be trained"),
        ({"device": "cuda"}, "an export runs on the processor"),
    ],
)
def test_profiles_that_an_export_cannot_have(fields: dict[str, Any], sentence: str, home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        dactcli.profile("out", **fields)
    assert sentence in caught.value.sentence


def test_certifying_again_needs_the_run_as_it_was(home: Path) -> None:
    config = home / "runs" / "tiny" / "config.json"
    document = json.loads(config.read_text())
    config.write_text(json.dumps({**document, "long_texts": "head+tail"}))
    with pytest.raises(ArtefactError, match="was made from .*tiny, which has changed since"):
        dactcli.calibrate("out", dactcli.RiskRequest(0.3, delta=0.1))
    (home / "runs" / "tiny").rename(home / "runs" / "elsewhere")
    with pytest.raises(ArtefactError, match="which is not there; put it back, or export the run again"):
        dactcli.calibrate("out", dactcli.RiskRequest(0.3, delta=0.1))


def test_an_export_without_its_configuration_still_predicts(home: Path) -> None:
    (home / "out" / "config.json").unlink()
    assert predict(["the key"], run="out")[0].label is not None
    with pytest.raises(ArtefactError, match=r"config.json: is missing or damaged; export the run again"):
        dactcli.evaluate("out", split="validation")
