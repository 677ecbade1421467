"""Every command and its function, on the same run: the same document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import TINY, Told, dact

import dactcli
from dactcli import BudgetRequest, RiskRequest
from dactcli.errors import UsageError

TEXTS = ["the key is old .", "the keys to the cabinet is old ."]
DATA = "sentence,label\n" + "".join(f"the key near the box {number} is old .,acceptable\n" for number in range(90))


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, so that calibrations disturb nobody, and the current folder beside it."""
    shutil.copytree(tiny_run, tmp_path / "runs" / "tiny-1")
    (tmp_path / "runs" / "latest").symlink_to("tiny-1")
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "fresh.csv").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    return Path("runs/tiny-1")


def shown(*arguments: object) -> Any:
    """The document that a command prints."""
    done = dact(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def same(document: Any, result: Any) -> None:
    """A command's document is that of the function, but for the version of the format that a file bears."""
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "format"}
    assert document == json.loads(json.dumps(result))


def test_evaluate(run: Path) -> None:
    same(shown("eval", run), dactcli.evaluate(run).to_json())
    rules = ("--rule", "full", "--rule", "exact")
    chosen = dactcli.evaluate(run, split="test", rules=["full", "exact"], batch_size=7)
    same(shown("eval", run, "--split", "test", *rules, "--batch-size", "7"), chosen.to_json())
    same(shown("eval", "--data", "fresh.csv"), dactcli.evaluate(data="fresh.csv").to_json())
    assert dactcli.evaluate(dactcli.open_run()).run == "runs/tiny-1"


@pytest.mark.parametrize(
    ("text", "request_of"),
    [("risk=0.2,delta=0.1", RiskRequest(0.2, delta=0.1)), ("budget=2", BudgetRequest(2.0))],
)
def test_calibrate_and_then_everything_uses_the_rule(
    run: Path, tmp_path: Path, text: str, request_of: RiskRequest | BudgetRequest
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(run, twin)
    found = dactcli.calibrate(run, request_of, data="fresh.csv")
    same(shown("eval", twin, "--calibrate", text, "--data", "fresh.csv"), found.to_json())
    judged = dactcli.evaluate(run)
    assert found.rule in judged.rules
    same(shown("eval", run), judged.to_json())
    assert {one.rule for one in dactcli.inspect(TEXTS, run=run)} == {found.rule}


def test_compare(run: Path) -> None:
    same(shown("eval", run, "--compare"), dactcli.compare(run).to_json())
    both = dactcli.compare([run, Path("runs/latest")], split="test")
    same(shown("eval", run, "runs/latest", "--compare", "--split", "test"), both.to_json())


def test_inspect(run: Path) -> None:
    looked = dactcli.inspect(TEXTS, run=run, rule="max_prob:0.6", verify=True)
    same(shown("inspect", *TEXTS, "--run", run, "--rule", "max_prob:0.6", "--verify"), looked.to_json())
    deep = dactcli.inspect(file="fresh.csv", sort="margin", limit=3)
    assert (len(deep), len(deep.every)) == (3, 90)
    same(shown("inspect", "--file", "fresh.csv", "--sort", "margin", "--limit", "3"), deep.to_json())


def test_predict(run: Path) -> None:
    done = dact("predict", "fresh.csv", "--run", run, "--output", "command.jsonl", "--max-layers", "2")
    assert done.exit_code == 0, done.stderr
    made = dactcli.predict_files(["fresh.csv"], run=run, output="function.jsonl", max_layers=2)
    assert Path("command.jsonl").read_bytes() == Path("function.jsonl").read_bytes()
    assert (made.output, made.predictions, made.skipped) == ("function.jsonl", 90, 0)
    assert f"90 predictions in command.jsonl (rule {made.rule})" in done.stderr
    again = dactcli.predict_files(["fresh.csv"], run=run, output="function.jsonl", resume=True)
    assert again.already_complete
    lines = [json.loads(line) for line in Path("function.jsonl").read_text().splitlines()]
    answers = dactcli.predict([line["sentence"] for line in lines], run=run, max_layers=2)
    assert [answer.exit_layer for answer in answers] == [line["exit_layer"] for line in lines]


def test_predict_into_a_stream(run: Path) -> None:
    with Path("stream.jsonl").open("w") as stream:
        made = dactcli.predict_files(["fresh.csv"], run=run, output=stream)
    assert made.output is None
    printed = dact("predict", "fresh.csv", "--run", run).stdout
    assert Path("stream.jsonl").read_text() == printed
    assert printed.count("\n") == 90


def timeless(document: dict[str, Any]) -> Any:
    """A profile's document without what is measured."""
    cases = [
        {name: case[name] for name in ("batch_size", "sequence_length", "rule", "metric")} for case in document["cases"]
    ]
    depths = [case["adaptive"]["depths"] for case in [*document["cases"], *document["throughput"]]]
    return cases, depths, document["examples"], document["available"], document["environment"]


def test_profile_has_one_set_of_defaults(run: Path) -> None:
    document = shown("profile", run, "--repeats", "2", "--warmup", "0")
    timed = dactcli.profile(run, repeats=2, warmup=0).to_json()
    assert timeless(document) == timeless(json.loads(json.dumps(timed)))
    assert document.keys() - {"format"} == timed.keys()


def test_a_profile_leaves_a_loaded_run_as_it_is(run: Path) -> None:
    opened = dactcli.open_run(run)
    before = opened.model.dtype
    dactcli.profile(opened, dtype="bf16", batch_sizes=[2], examples=4, repeats=2, warmup=0)
    assert opened.model.dtype == before


def test_publish(run: Path) -> None:
    document = shown("publish", run, "--to", "one")
    made = dactcli.publish(run, to="two")
    assert document["folder"] == "one"
    same({**document, "folder": "two"}, made.to_json())
    cards = [Path(name, "README.md").read_text().splitlines() for name in ("one", "two")]
    assert [line.replace("one", "two") for line in cards[0][:-1]] == [
        line.replace("one", "two") for line in cards[1][:-1]
    ]
    assert len(cards[0]) > 50  # the last line has a digest, in which the name is


def unmeasured(document: dict[str, Any]) -> dict[str, Any]:
    """A plan without its times and sizes."""
    return {
        name: value
        for name, value in document.items()
        if name not in ("seconds", "seconds_per_step", "memory_mib", "format")
    }


def test_validate(run: Path) -> None:
    told = Told()
    plan = dactcli.validate("tiny.yaml", overrides=["training.seed=3"], listener=told)
    document = shown("validate", "tiny.yaml", "--set", "training.seed=3")
    assert unmeasured(document) == unmeasured(json.loads(json.dumps(plan.to_json())))
    assert told.notices == plan.notices


def test_recipes_and_runs(run: Path) -> None:
    found = [{"name": one.name, "about": one.about} for one in dactcli.recipes()]
    same(shown("recipes", "list"), found)
    assert dact("recipes", "show", "sst2").stdout == dactcli.show_recipe("sst2")
    assert dactcli.copy_recipe("sst2", "mine.yaml").read_text().startswith("# dact finetune mine.yaml")
    same(shown("runs", "--sort", "size"), {"runs": [one.to_json() for one in dactcli.list_runs(sort="size")]})
    with pytest.raises(UsageError, match="`sort`: 'sise' is unknown; did you mean size"):
        dactcli.list_runs(sort="sise")


def test_fit_plan_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    short = ["data.examples=64", "training.max_steps=2"]
    flags = [part for text in short for part in ("--set", text)]
    same(shown("finetune", "tiny.yaml", *flags, "--dry-run"), dactcli.plan("tiny.yaml", short).to_json())
    made = dactcli.fit("tiny.yaml", overrides=short).to_json()
    document = shown("finetune", "tiny.yaml", *flags)
    assert (made["run"], document["run"]) == ("runs/tiny-1", "runs/tiny-2")
    for key in ("steps", "resumed", "halting_fitted"):
        assert document[key] == made[key]
    judged, twin = document["evaluation"]["validation"], made["evaluation"]["validation"]
    assert {**judged, "run": ""} == {**json.loads(json.dumps(twin)), "run": ""}
    told = Told()
    again = dactcli.fit("tiny.yaml", overrides=short, resume=True, listener=told)
    assert again.already_finished
    assert told.notices == ["nothing to resume: runs/tiny-2 is finished"]
    same(shown("finetune", "tiny.yaml", *flags, "--resume"), again.to_json())


def test_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    short = ["data.examples=64", "training.max_steps=2"]
    told = Told()
    swept = dactcli.sweep("tiny.yaml", ["training.seed=1,2"], overrides=short, listener=told)
    assert len(swept.runs) == 2
    flags = [part for text in short for part in ("--set", text)]
    same(shown("finetune", "tiny.yaml", *flags, "--sweep", "training.seed=1,2"), swept.to_json())
    same(json.loads(Path("runs/tiny-sweep/sweep.json").read_text()), swept.to_json())


def test_errors_name_the_field_in_python_and_the_option_in_the_shell(run: Path) -> None:
    cases: list[tuple[Any, list[object], str, str]] = [
        (lambda: dactcli.evaluate(run, split="tset"), ["eval", run, "--split", "tset"], "`split`", "--split"),
        (lambda: dactcli.predict(TEXTS, run=run, rule="exat"), ["inspect", "a", "--run", run, "--rule", "exat"], "`rule`", "--rule"),
        (lambda: dactcli.profile(run, batch_sizes=[0]), ["profile", run, "--batch-size", "0"], "`batch_sizes`", "--batch-size"),
        (lambda: dactcli.inspect(TEXTS, run=run, only="odd"), ["inspect", *TEXTS, "--run", run, "--only", "odd"], "`only`", "--only"),
        (lambda: dactcli.fit("tiny.yaml", weights_only=True), ["finetune", "tiny.yaml", "--weights-only"], "`weights_only`", "--weights-only"),
        (lambda: dactcli.publish(run), ["publish", run], "add `to` FOLDER", "add --to FOLDER"),
    ]  # fmt: skip
    for call, command, field, flag in cases:
        with pytest.raises(UsageError) as caught:
            call()
        assert field in caught.value.sentence
        assert "--" not in caught.value.sentence
        refused = dact(*command)
        assert refused.exit_code == 2
        assert flag in refused.stderr
        assert "`" not in refused.stderr


def test_every_public_name_is_there_and_notice_still_works(run: Path) -> None:
    assert all(getattr(dactcli, name) is not None for name in dactcli.__all__)
    told: list[str] = []
    with pytest.warns(DeprecationWarning, match="notice= is deprecated; use listener="):
        dactcli.profile(run, batch_sizes=[2], examples=4, repeats=2, warmup=0, notice=told.append)
    assert told[0].startswith("about ")
    with pytest.raises(TypeError, match="splt"):
        dactcli.evaluate(run, splt="test")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: dactcli.predict("the key"), "`texts`: is one text, and a list is needed; write ['the key']"),
        (lambda: dactcli.predict_files("a.csv"), "`inputs`: is one text, and a list is needed; write ['a.csv']"),
        (lambda: dactcli.inspect("the key"), "`texts`: is one text, and a list is needed; write ['the key']"),
        (lambda: dactcli.evaluate(rules="exact"), "`rules`: is one text, and a list is needed; write ['exact']"),
        (
            lambda: dactcli.fit("a.yaml", overrides="x=1"),
            "`overrides`: is one text, and a list is needed; write ['x=1']",
        ),
        (lambda: dactcli.sweep("a.yaml", "x=1,2"), "`sweeps`: is one text, and a list is needed; write ['x=1,2']"),
        (lambda: dactcli.evaluate(batch_size=0), "`batch_size`: is 0; give at least 1"),
        (lambda: dactcli.inspect(["a"], limit=-1), "`limit`: is -1; give at least 1"),
        (lambda: dactcli.profile(repeats=1), "`repeats`: is 1; give at least 2"),
    ],
)
def test_values_that_the_shell_cannot_give_are_refused(call: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.sentence == sentence
