"""`dact publish`: what is in the folder and what is not, the card, the hub (a fake one), and errors without traces."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import yaml
from fake_hub import Hub, pretend
from huggingface_hub.errors import HfHubHTTPError
from support import TINY, dact, train, weights_digest
from syrupy.assertion import SnapshotAssertion
from transformers import AutoConfig

import dactcli
from dactcli.publishing.card import UNLICENSED, code, write_card
from dactcli.publishing.facts import CardFacts
from dactcli.publishing.folder import shareable
from dactcli.recipe.load import load_recipe
from dactcli.results import (
    Calibration,
    ClassResult,
    ComparedRule,
    Comparison,
    EvalResult,
    Interval,
    Reference,
    RuleResult,
)
from dactcli.runs.load import load_run

FILES = ["README.md", "config.json", "model.safetensors", "recipe.yaml", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one's own, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "run")
    return Path("run")


def header(card: str) -> dict[str, Any]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_a_published_model_is_a_model_like_any_other(run: Path) -> None:
    done = dact("publish", run, "--to", "out/agree", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["folder"], document["hub"], document["rule"]) == ("out/agree", None, "exact")
    folder = Path("out/agree")
    assert document["files"] == sorted(path.name for path in folder.iterdir()) == FILES
    assert weights_digest(folder) == weights_digest(run)
    texts = ["the key is rusty .", "near the old boats , the keys to the cabinet of the doctors are rusty ."]
    looked = [json.loads(dact("inspect", *texts, "--run", place, "--json").stdout) for place in (run, folder)]
    assert looked[0] == looked[1]
    assert json.loads(dact("eval", folder, "--json").stdout)["rules"]["exact"]["agreement_with_full"] == 1
    Path("runs/half-1").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", "runs/half-1")
    shutil.copytree(folder, "runs/public")
    assert [Path(one.run).name for one in dactcli.list_runs("runs")] == ["half-1"]
    again = dact("publish", folder, "--to", "again")
    assert again.exit_code == 0
    assert (Path("again") / "README.md").read_text() == (folder / "README.md").read_text()


def test_nothing_tells_of_the_machine_or_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"sentence": f"secret{number % 7} words {number}", "label": number % 2} for number in range(400)]
    Path("private").mkdir()
    for name in ("train", "fresh"):
        Path(f"private/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[name == "fresh" :]))
    made = train(tmp_path / "encoder").run  # a folder that serves as encoder below
    load_run(Path(made)).model.encoder.save_pretrained("private/bert")
    load_run(Path(made)).tokenizer.save_pretrained("private/bert")
    data = f"{{source: files, train: {tmp_path}/private/train.jsonl, validation: 0.1, test: 0.1, max_length: 32}}"
    text = TINY.replace("task: {name: agreement}", "task: {name: leaks}")
    text = text.replace("data: {source: builtin, max_length: 48, examples: 320}", f"data: {data}")
    text = text.replace(
        "encoder: {hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48, dropout: 0.0}",
        f"encoder: {tmp_path}/private/bert",
    )
    run = Path(train(tmp_path / "other", text).run)
    fresh = tmp_path / "private" / "fresh.jsonl"
    fresh.write_text("".join(json.dumps({"sentence": f"other{n} {n}", "label": 0}) + "\n" for n in range(400)))
    assert dact("eval", run, "--calibrate", "risk=0.5,delta=0.5", "--data", fresh).exit_code == 0
    assert dact("eval", run, "--split", "test").exit_code == 0
    done = dact("publish", run, "--to", "out")
    assert done.exit_code == 0, done.stderr
    for path in Path("out").iterdir():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content, path
        assert b"private" not in content, path
    card = Path("out/README.md").read_text()
    assert "secret" not in card
    assert "base_model" not in header(card)
    assert "datasets" not in header(card)
    assert load_recipe(Path("out/recipe.yaml")).data.train == str(tmp_path / "out" / "train.jsonl")


def test_a_valid_certificate_goes_along_and_is_the_rule(run: Path) -> None:
    assert dact("eval", run, "--calibrate", "risk=0.05,delta=0.1").exit_code == 0
    assert dact("eval", run, "--split", "test").exit_code == 0
    assert dact("eval", run, "--split", "validation").exit_code == 0
    done = dact("publish", run, "--to", "out", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    kept = json.loads(Path("out/calibration.json").read_text())
    assert document["rule"] == kept["rule"] == AutoConfig.from_pretrained("out").rule
    assert document["promise"] == kept["promise"]
    card = Path("out/README.md").read_text()
    assert f"> {kept['promise']}." in card
    assert "### test, 3,000 examples" in card
    assert "### Accuracy against layers" in card
    (entry,) = json.loads(dact("inspect", "--run", "out", "the keys are old .", "--json").stdout)
    assert (entry["rule"], entry["promise"]) == (kept["rule"], kept["promise"])
    fresh = Path("fresh.jsonl")
    fresh.write_text('{"sentence": "the key is old .", "label": 1}\n')
    judged = dact("eval", "out", "--data", fresh, "--json")
    assert json.loads(judged.stdout)["rules"][kept["rule"]]["certificate"]["epsilon"] == 0.05
    assert "void" not in judged.stderr

    void = {**json.loads((run / "calibration.json").read_text()), "weights_sha256": "0" * 64}
    (run / "calibration.json").write_text(json.dumps(void))
    done = dact("publish", run, "--to", "out", "--overwrite")
    assert "is void" in done.stderr
    assert not Path("out/calibration.json").exists()
    assert "with probability" not in Path("out/README.md").read_text()


def test_the_cards_own_python_runs(run: Path) -> None:
    assert dact("publish", run, "--to", "out").exit_code == 0
    card = Path("out/README.md").read_text()
    python = "\n".join(part.split("```")[0] for part in card.split("```python\n")[1:])
    assert python.count("from_pretrained") == 2
    Path("card.py").write_text(python)
    runpy.run_path("card.py")


def test_a_card_that_the_owner_wrote_stays(run: Path) -> None:
    (run / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    done = dact("publish", run, "--to", "out")
    assert Path("out/README.md").read_text() == (run / "README.md").read_text()
    assert "names no license" not in done.stderr


def test_figures_of_other_weights_are_left_out(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "model_sha256": "0" * 64}))
    shutil.rmtree(run / "outputs", ignore_errors=True)  # kept outputs would be judged anew
    done = dact("publish", run, "--to", "out")
    assert "belongs to another model" in done.stderr
    assert "How good" not in Path("out/README.md").read_text()


def test_a_model_without_recipe_and_summary_has_a_card_too(run: Path) -> None:
    for name in ("recipe.yaml", "summary.json", "eval.json"):
        (run / name).unlink()
    done = dact("publish", run, "--to", "out")
    assert done.exit_code == 0, done.stderr
    card = Path("out/README.md").read_text()
    assert "kept no figures" in card
    assert "metrics" not in header(card)
    assert not Path("out/recipe.yaml").exists()


def test_a_summary_of_another_shape_is_no_summary(run: Path) -> None:
    digest = json.loads((run / "summary.json").read_text())["weights_sha256"]
    documents: list[Any] = [{"evaluation": 3, "versions": [1]}, {"evaluation": {"test": {"rules": {"x": None}}}}, []]
    for document in documents:
        kept = {**document, "weights_sha256": digest} if isinstance(document, dict) else document
        (run / "summary.json").write_text(json.dumps(kept))
        assert dact("publish", run, "--to", "out", "--overwrite").exit_code == 0


def test_paths_of_a_recipe_are_cut_to_their_last_part(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {source: files, train: [a.csv, b.csv], validation: 0.1}\nmodel: {encoder: ./mine}\n")
    shared = shareable(load_recipe(path))
    assert (shared.data.train, shared.data.validation, shared.model.encoder) == (["a.csv", "b.csv"], 0.1, "mine")
    path.write_text("data: {source: hub, name: nyu-mll/glue}\nmodel: {encoder: bert-base-uncased}\noutput: {dir: /x}\n")
    shared = shareable(load_recipe(path))
    assert (shared.data.name, shared.model.encoder, shared.output.dir) == (
        "nyu-mll/glue",
        "bert-base-uncased",
        "runs",
    )


FULL = RuleResult(0.9412, {"accuracy": 0.9412}, 4.0, 1.0, [0, 0, 0, 1000], 1.0)
BY_CLASS = {
    "negative": ClassResult(480, 0.92, 0.93, 0.0125, 0.0146, 2.2),
    "pos|itive": ClassResult(520, 0.96, 0.95, 0.0, 0.0, 2.0),
}
EARLY = RuleResult(0.9387, {"accuracy": 0.9387}, 2.1, 0.525, [300, 400, 200, 100], 0.994, by_class=BY_CLASS)
BESIDE = {
    "majority": Reference(0.52, {"accuracy": 0.52}, 0.53, "pos|itive"),
    "last_layer": Reference(0.9375, {"accuracy": 0.9375}, 0.981),
}
CERTIFICATE = Calibration(
    kind="risk", rule="confidence:0.93", threshold=0.93, certified=True, rules_tried=["confidence"], examples=1500,
    layers_mean=2.08, weights_sha256="0" * 64, config_sha256="0" * 64, tokenizer_sha256="0" * 64, dtype="float32",
    max_length=128, split="calibration", data_fingerprint="0" * 64, distinct=1490, screened=["train", "validation"],
    loss="disagreement", epsilon=0.01, delta=0.05, delta_spent=0.025, attempt=1, observed=8,
)  # fmt: skip
COMPARED = ComparedRule(Interval(0.96, 0.95, 0.97), 1.0, {"0.25": 0.81, "0.5": 0.93, "0.75": 0.94}, 2.2, [])
DEEP = ComparedRule(None, 2.3, {"0.25": None, "0.5": None, "0.75": 0.94}, None, [])
FACTS = CardFacts(
    name="jane/sst2-dact",
    on_hub=True,
    dact_version="0.1.0",
    family="bert",
    layers=4,
    hidden_size=128,
    parameters=1_234_567,
    max_length=128,
    long_texts="head+tail",
    objective="dact",
    rule="confidence:0.93",
    labels=["negative", "positive"],
    task="sst2",
    metric="accuracy",
    source="hub",
    dataset="nyu-mll/glue",
    dataset_config="sst2",
    base_model="bert-base-uncased",
    tau=0.05,
    fitted_on_validation=True,
    seed=0,
    evaluations={
        "validation": EvalResult(
            "r", "validation", 1000, "accuracy", 4, {"full": FULL, "confidence:0.93": EARLY},
            references=BESIDE, notices=['full depth is not clearly better than always answering "pos|itive*<b>"'],
        )
    },
    comparison=Comparison(
        "validation", 1000, "accuracy", 4, ["r"], "full depth", ["r"], 0.9412,
        {"confidence": COMPARED, "exact": DEEP}, 0.52, 0.9375, ["these figures are measurements"],
    ),
    calibration=CERTIFICATE,
    versions={"python": "3.11.7", "dactcli": "0.1.0", "torch": "2.13.0"},
)  # fmt: skip
FEW = CardFacts(
    name="plain|<b>", on_hub=False, dact_version="0.1.0", family="bert", layers=4, hidden_size=128,
    parameters=1_234_567, max_length=64, long_texts="cut", objective="dact", rule="tolerance:0.1", labels=[], answer_range=(0.0, 5.0),
    pairs=True,
)  # fmt: skip


def test_a_card_says_that_a_metric_is_undefined() -> None:
    judged = replace(FULL, metric=None, metrics={"matthews_correlation": None})
    why = "matthews correlation is undefined: all labels are of one class"
    result = EvalResult("r", "test", 1000, "matthews_correlation", 4, {"full": judged}, notices=[why])
    card = write_card(replace(FACTS, evaluations={"test": result}))
    assert "undefined |" in card
    assert why in card


@pytest.mark.parametrize(
    ("rule", "always", "unpromised"),
    [("exact", True, False), ("slack:0", True, False), ("slack:0.5", False, True), ("full", False, False), ("max_prob:0.9", False, True)],
)  # fmt: skip
def test_a_card_promises_what_the_rule_does(rule: str, always: bool, unpromised: bool) -> None:
    card = write_card(replace(FACTS, rule=rule, calibration=None))
    assert ("it is always the class of full depth" in card) == always
    assert ("may differ from full depth" in card) == unpromised
    assert ("Every layer runs unless a call names a halting rule." in card) == (rule == "full")


@pytest.mark.parametrize("facts", [FACTS, FEW], ids=["everything", "little"])
def test_cards(facts: CardFacts, snapshot: SnapshotAssertion) -> None:
    card = write_card(facts)
    assert card == snapshot
    assert header(card)["library_name"] == "transformers"
    assert "license" not in header(card)
    assert UNLICENSED in card
    assert not [line for line in card.splitlines() if len(line) != len(line.rstrip())]


def test_the_header_is_what_the_hub_reads() -> None:
    found = header(write_card(FACTS))
    assert found["pipeline_tag"] == "text-classification"
    assert {"dact", "early-exit"} <= set(found["tags"])
    assert (found["base_model"], found["datasets"], found["metrics"]) == (
        "bert-base-uncased",
        ["nyu-mll/glue"],
        ["accuracy"],
    )
    assert header(write_card(replace(FACTS, metric="pearson")))["metrics"] == ["pearsonr"]


def test_names_mean_nothing_to_markdown() -> None:
    assert code("a|b\n# `c`") == "`a\\|b # 'c'`"
    card = write_card(replace(FACTS, labels=[f"l{number}" for number in range(77)]))
    assert "`l19` and 57 more |" in card


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return pretend(monkeypatch)


def test_a_push_is_one_commit_of_the_whole_folder(run: Path, hub: Hub) -> None:
    done = dact("publish", run, "--hub", "jane/agree", "--to", "out", "--private", "--message", "first", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["hub"], document["folder"]) == ("https://hub.example/jane/agree", "out")
    assert sorted(hub.uploaded) == document["files"] == sorted(path.name for path in Path("out").iterdir())
    assert b"# jane/agree" in hub.uploaded["README.md"]
    assert b"hf download jane/agree --local-dir agree" in hub.uploaded["README.md"]
    (_, created), (_, commit) = hub.calls
    assert created == {"repo_id": "jane/agree", "repo_type": "model", "private": True, "exist_ok": True}
    assert (commit["repo_id"], commit["commit_message"]) == ("jane/agree", "first")
    assert "calibration.json" in commit["delete_patterns"]  # an older certificate does not outlive its weights


def test_without_a_folder_nothing_stays_here(run: Path, hub: Hub) -> None:
    assert dact("publish", run, "--hub", "jane/agree").exit_code == 0
    assert [path.name for path in Path().iterdir()] == ["run"]


def refused(status: int, text: str = "no") -> HfHubHTTPError:
    return HfHubHTTPError(text, response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "exit_code", "sentence"),
    [
        (refused(401), 5, "--hub jane/agree: the hub does not accept the token; log in with: hf auth login"),
        (refused(403), 2, "--hub jane/agree: the token may not write there; name a namespace of yours"),
        (refused(500, "down\nid 7"), 5, "--hub jane/agree: the hub refuses: down; try again later"),
        (ConnectionError("no route"), 5, "--hub jane/agree: the hub cannot be reached: no route; check the network"),
        (ValueError("Invalid metadata"), 2, "--hub jane/agree: the hub does not take the card: Invalid metadata"),
    ],
)
@pytest.mark.parametrize("at", ["create_repo", "upload_folder"])
def test_a_push_that_fails_leaves_nothing(
    run: Path, hub: Hub, at: str, fault: Exception, exit_code: int, sentence: str
) -> None:
    hub.fault, hub.at = fault, at
    done = dact("publish", run, "--hub", "jane/agree", "--to", "out")
    assert done.exit_code == exit_code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in Path().iterdir()] == ["run"]


def test_a_public_model_is_not_taken_for_a_private_one(run: Path, hub: Hub) -> None:
    hub.public = True
    done = dact("publish", run, "--hub", "jane/agree", "--private")
    assert done.exit_code == 2
    assert "already exists and is public" in done.stderr
    assert not hub.uploaded


def test_no_token_and_no_network(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = dact("publish", run, "--hub", "jane/agree")
    assert (done.exit_code, "there is no token for the hub; log in with" in done.stderr) == (5, True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = dact("publish", run, "--hub", "jane/agree")
    assert (done.exit_code, "switched off by HF_HUB_OFFLINE; unset it" in done.stderr) == (5, True)
    assert not hub.calls


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        ([], 2, "dact publish: nothing says where to; add --to FOLDER or --hub NAMESPACE/NAME"),
        (["--to", "x", "--private"], 2, "--private: is for the hub; add --hub NAMESPACE/NAME"),
        (["--to", "x", "--message", "m"], 2, "--message: is for the hub"),
        (["--hub", "agree"], 2, "--hub agree: is not of the form NAMESPACE/NAME; write for example jane/sst2-dact"),
        (["--hub", "a/b/c"], 2, "--hub a/b/c: is not of the form NAMESPACE/NAME"),
        (["--hub", "jane/a--b"], 2, "--hub jane/a--b: is not a valid name on the hub"),
        (["--hub", "jane/a b"], 2, "is not a valid name on the hub; use letters"),
        (["--to", "run"], 2, "--to run: is where the run itself stands"),
        (["--to", "."], 2, "--to .: is where the run itself stands"),
        (["--to", "full"], 2, "--to full: already exists; name another folder, or add --overwrite"),
        (["--to", "full", "--overwrite"], 2, "--to full: is not a published model and is not replaced"),
        (["--to", "file"], 2, "--to file: is not a folder"),
        (["--to", "file/x"], 5, "file/x: cannot be written"),
        (["--too", "x"], 2, "there is no option --too; did you mean --to?"),
    ],
)
def test_faults_are_found_before_any_work(
    run: Path, hub: Hub, arguments: list[str], exit_code: int, sentence: str
) -> None:
    Path("full").mkdir()
    Path("full/kept").touch()
    Path("file").touch()
    before = sorted(Path().rglob("*"))
    done = dact("publish", run, *arguments)
    assert done.exit_code == exit_code, done.stderr
    assert sentence in done.stderr
    assert sorted(Path().rglob("*")) == before
    assert not hub.calls


def test_a_misspelt_run_is_told_the_nearest(run: Path) -> None:
    done = dact("publish", "rum", "--to", "out")
    assert (done.exit_code, "rum: no such run; did you mean run?" in done.stderr) == (3, True)
    assert not Path("out").exists()


def test_a_full_disk_leaves_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dact("publish", run, "--to", "out").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    done = dact("publish", run, "--to", "out", "--overwrite")
    assert (done.exit_code, "out: cannot be written: No space left on device" in done.stderr) == (5, True)
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert sorted(path.name for path in Path().iterdir()) == ["out", "run"]


def test_overwriting_replaces_the_whole(run: Path) -> None:
    assert dact("publish", run, "--to", "out").exit_code == 0
    Path("out/stale").touch()
    Path("out/README.md").write_text("old")
    assert dact("publish", run, "--to", "out", "--overwrite").exit_code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == FILES
    shutil.copy(run / "summary.json", "out")  # now it looks like a run
    assert dact("publish", run, "--to", "out", "--overwrite").exit_code == 2
