"""A certificate holds or is not printed: which examples may certify, what trying again costs, what voids and replaces."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TINY, dact, shared, train
from transformers import AutoConfig, AutoModelForSequenceClassification

from dactcli import Listener, RiskRequest, calibrate, evaluate, open_run, predict
from dactcli.data.agreement import generate
from dactcli.errors import ArtefactError, UsageError
from dactcli.evaluation.evaluate import EvalSplit
from dactcli.evaluation.evaluate import evaluate as judged_anew
from dactcli.evaluation.examples import run_examples
from dactcli.runs import calibration as record
from dactcli.runs.calibration import (
    ATTEMPTS,
    CALIBRATION,
    WeakerCalibrationError,
    keep_calibration,
    load_attempts,
    load_calibration,
    spend,
)

FILES = "{source: files, train: train.jsonl, validation: dev.jsonl, calibration: %s, test: test.jsonl, max_length: 48}"


def write(path: Path, sentences: list[Any]) -> Path:
    rows = [{"sentence": one.sentence, "label": one.label} for one in sentences]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """A run on files, and distinct sentences that it did not see."""
    folder = tmp_path_factory.mktemp("certifying")
    splits = generate(train=320, validation=200, calibration=1600, test=300)
    used = {one.sentence for split in ("train", "validation") for one in splits[split]}
    fresh = {one.sentence: one for one in splits["calibration"] if one.sentence not in used}
    splits["calibration"] = list(fresh.values())
    names = {"train": "train", "dev": "validation", "cal": "calibration", "test": "test"}
    for name, split in names.items():
        write(folder / f"{name}.jsonl", splits[split])
    text = TINY.replace("{source: builtin, max_length: 48, examples: 320}", FILES % "cal.jsonl")
    return shared(Path(train(folder, text).run)), splits


@pytest.fixture
def run(built: tuple[Path, dict[str, list[Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(built[0], tmp_path / "run"))


@pytest.fixture
def splits(built: tuple[Path, dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return built[1]


def ask(run: Path, *arguments: object, code: int = 0) -> Any:
    """Calibrate by the command, and its document."""
    result = dact("eval", run, "--calibrate", *arguments, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout) if code == 0 else result.stderr


def test_a_calibration_split_equal_to_validation_cannot_certify(run: Path, splits: dict[str, list[Any]]) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("cal.jsonl", "dev.jsonl"))
    sentence = ask(run, "risk=0.3,delta=0.3", code=2)
    assert "calibration: no example is left to calibrate on" in sentence
    assert not (run / CALIBRATION).exists()
    assert not (run / ATTEMPTS).exists()


def test_examples_of_training_are_left_out_and_counted_by_every_route(
    run: Path, splits: dict[str, list[Any]], tmp_path: Path
) -> None:
    fresh, seen = splits["calibration"][:600], splits["train"][:50] + splits["validation"][:10]
    file = write(tmp_path / "mixed.jsonl", fresh + seen)
    by_command = ask(run, "risk=0.3,delta=0.3", "--data", file)
    assert by_command["examples"] == 600
    assert sum(by_command["left_out"].values()) == 60
    assert by_command["screened"] == ["train", "validation"]
    assert "whose input was not used in training" in by_command["promise"]
    by_library = calibrate(run, RiskRequest(0.3, 0.3), data=file)
    assert by_library.to_json() == {key: value for key, value in by_command.items() if key != "format"}
    recipe = run / "recipe.yaml"
    recipe.write_text(re.sub(r"calibration: .*cal\.jsonl", f"calibration: {file}", recipe.read_text()))
    (run / CALIBRATION).unlink()
    assert ask(run, "risk=0.3,delta=0.3")["left_out"] == by_command["left_out"]


def test_the_same_tokens_are_the_same_example(run: Path, splits: dict[str, list[Any]], tmp_path: Path) -> None:
    """Case and blanks that the tokenizer does not see make no fresh example."""
    rows = [{"sentence": f"  {one.sentence.upper()}  "} for one in splits["train"][:40]]
    file = tmp_path / "upper.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no example is left to calibrate on: of 40, 40 also in train" in ask(run, "risk=0.3", "--data", file, code=2)


def test_the_test_split_is_for_judging(run: Path) -> None:
    assert "--split: the test split is for judging" in ask(run, "risk=0.3", "--split", "test", code=2)
    with pytest.raises(UsageError, match="`split`: the test split is for judging"):
        calibrate(run, RiskRequest(0.3), split="test")


def test_figures_on_the_calibration_examples_themselves_are_marked(
    run: Path, splits: dict[str, list[Any]], tmp_path: Path
) -> None:
    file = write(tmp_path / "test-again.jsonl", splits["test"] + splits["calibration"][:300])
    found = ask(run, "risk=0.3,delta=0.3", "--data", file)
    shown = dact("eval", run, "--split", "test").stderr
    assert f"of {len(splits['test'])} examples chose the threshold of {found['rule']}" in " ".join(shown.split())
    assert "chose the threshold" not in dact("eval", run, "--split", "validation").stderr


def test_each_further_attempt_on_a_sample_has_half_as_much(run: Path) -> None:
    first = ask(run, "risk=0.3,delta=0.2")
    assert (first["attempt"], first["delta_spent"]) == (1, 0.1)
    again = ask(run, "risk=0.3,delta=0.2")
    assert again == first  # the same request spends nothing
    second = ask(run, "risk=0.3,delta=0.2", "--rule", "slack")
    third = ask(run, "risk=0.3,delta=0.2", "--rule", "max_prob", "--rule", "entropy")
    assert [second["attempt"], third["attempt"]] == [2, 3]
    assert [second["delta_spent"], third["delta_spent"]] == [0.05, 0.025]
    assert ask(run, "risk=0.3,delta=0.2") == first
    # so do the standing rule by its name, another order, and a name given twice
    assert ask(run, "risk=0.3,delta=0.2", "--rule", "settled") == first
    several = ["--rule", "entropy", "--rule", "max_prob", "--rule", "entropy"]
    assert ask(run, "risk=0.3,delta=0.2", *several)["attempt"] == 3
    assert len(ask(run, "risk=0.3,delta=0.2", *several)["rules_tried"]) == 2
    shown = dact("eval", run, "--calibrate", "risk=0.3,delta=0.2", "--rule", "slack").stdout
    assert "attempt 2 on this sample: tested at delta 0.05 of 0.2" in " ".join(shown.replace("│", " ").split())


def test_attempts_at_the_same_time_are_counted_one_after_the_other(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_run(run)
    read = record.load_attempts

    def slowly(folder: Path) -> list[dict[str, Any]]:
        found = read(folder)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(record, "load_attempts", slowly)
    risks = [0.1 + step / 100 for step in range(4)]
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda risk: spend(opened, "sample", RiskRequest(risk).to_json()), risks))
    assert sorted(numbers) == [1, 2, 3, 4]
    assert sorted(one["attempt"] for one in read(run)) == [1, 2, 3, 4]


def test_an_attempt_that_certifies_nothing_is_counted_too(run: Path) -> None:
    assert not ask(run, "risk=0.000001")["certified"]
    assert ask(run, "risk=0.3")["attempt"] == 2


def test_the_record_is_of_model_and_sample_and_goes_with_copies(
    run: Path, splits: dict[str, list[Any]], tmp_path: Path
) -> None:
    assert ask(run, "risk=0.3,delta=0.2")["attempt"] == 1
    other = write(tmp_path / "other.jsonl", splits["calibration"][:900])
    assert ask(run, "risk=0.3,delta=0.2", "--data", other)["attempt"] == 1
    turned = write(tmp_path / "turned.jsonl", splits["calibration"][:900][::-1])
    assert ask(run, "risk=0.25,delta=0.2", "--data", turned)["attempt"] == 2  # another order is the same sample
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert ask(copy, "risk=0.25,delta=0.2", "--rule", "slack")["attempt"] == 2
    assert dact("publish", run, "--to", "out").exit_code == 0
    assert load_attempts(Path("out")) == load_attempts(run)
    # the publication lies elsewhere, without the data of training: what it can promise depends on them
    assert "it holds under a condition" in ask(Path("out"), "risk=0.2,delta=0.2", "--data", other, code=2)
    assert ask(Path("out"), "risk=0.2,delta=0.2", "--data", other, "--replace")["attempt"] == 3


@pytest.mark.parametrize("number", [-5, 0, 5000, 1.5])
def test_an_attempt_of_an_impossible_number_gives_no_delta_back(run: Path, number: float) -> None:
    """Attempt -5 would be tested at 32 times delta."""
    ask(run, "risk=0.3,delta=0.2")
    document = json.loads((run / ATTEMPTS).read_text())
    document["attempts"][0]["attempt"] = number
    (run / ATTEMPTS).write_text(json.dumps(document))
    assert "calibration-attempts.json: " in ask(run, "risk=0.3,delta=0.2", code=3)


def test_a_tiny_delta_is_no_certainty(run: Path) -> None:
    assert "with probability at least 1 - 1e-07 over" in ask(run, "risk=0.3,delta=1e-7")["promise"]


def test_a_sample_can_be_spent(run: Path) -> None:
    ask(run, "risk=0.3,delta=0.2")
    document = json.loads((run / ATTEMPTS).read_text())
    document["attempts"][0]["attempt"] = 1000
    (run / ATTEMPTS).write_text(json.dumps(document))
    assert "1000 attempts on this sample have spent its delta" in ask(run, "risk=0.2,delta=0.2", code=2)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempts": [{"model": 3}]}', '{"attempts": 4}', '{"format": 99}'])
def test_a_damaged_record_of_attempts_certifies_nothing(run: Path, text: str) -> None:
    (run / ATTEMPTS).write_text(text)
    sentence = ask(run, "risk=0.3", code=3)
    assert "calibration-attempts.json: " in sentence
    with pytest.raises(ArtefactError):
        calibrate(run, RiskRequest(0.3))
    assert not (run / CALIBRATION).exists()


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def remove_normalizer(run: Path) -> None:
    change(run / "tokenizer.json", normalizer=None)


def flatten(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["encoder_config"]["layer_norm_eps"] = 0.5
    (run / "config.json").write_text(json.dumps(config))


CHANGES: dict[str, Callable[[Path], None]] = {
    "config.json": flatten,
    "the tokenizer files": remove_normalizer,
    "the tokenizer files, max_length": lambda run: change(run / "tokenizer_config.json", model_max_length=40),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_can_change_an_answer_voids_the_certificate_everywhere(run: Path, what: str) -> None:
    found = ask(run, "risk=0.3,delta=0.2")
    CHANGES[what](run)
    sentence = f"is void, because {what} changed"
    commands: list[tuple[object, ...]] = [
        ("eval", run),
        ("inspect", "--run", run, "the key is old ."),
        ("predict", run.parent / "texts.txt", "--run", run),
        ("profile", run, "--batch-size", "2", "--examples", "4", "--repeats", "2"),
    ]
    (run.parent / "texts.txt").write_text("the key is old .\n")
    for command in commands:
        result = dact(*command)
        assert result.exit_code == 0, result.stderr
        assert sentence in " ".join(result.stderr.split()), command
        assert found["rule"] not in result.stdout
    (line,) = json.loads(dact("runs", run.parent, "--json").stdout)["runs"]
    assert (line["rule"], line["metric"], line["layers_mean"]) == ("exact", None, None)
    shown = dact("runs", run.parent).stdout
    assert "undefined" not in shown  # it is not known
    assert found["rule"] not in shown
    told: list[str] = []
    listener = Listener()
    listener.notice = told.append  # type: ignore[method-assign, assignment]
    assert found["rule"] not in evaluate(run, listener=listener).rules
    predict(["the key is old ."], run=run, listener=listener)
    assert sum(sentence in text for text in told) == 2
    assert dact("publish", run, "--to", "out").exit_code == 0
    assert AutoConfig.from_pretrained("out").rule == "exact"
    assert not Path("out", CALIBRATION).exists()


def test_what_changes_no_answer_voids_nothing(run: Path) -> None:
    found = ask(run, "risk=0.3,delta=0.2")
    change(run / "config.json", transformers_version="4.0.0", _name_or_path="elsewhere", dtype="float32")
    change(
        run / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
    )
    result = dact("eval", run, "--json")
    assert "void" not in result.stderr
    assert json.loads(result.stdout)["rules"][found["rule"]]["certificate"]["certified"]


def test_a_calibration_of_an_earlier_version_is_void(run: Path) -> None:
    ask(run, "risk=0.3,delta=0.2")
    document = json.loads((run / CALIBRATION).read_text())
    for name in ("config_sha256", "tokenizer_sha256", "distinct", "screened", "attempt"):
        del document[name]
    (run / CALIBRATION).write_text(json.dumps(document))
    assert "is void, because an earlier version made it; calibrate again" in dact("eval", run).stderr


def test_kept_outputs_belong_to_one_configuration(run: Path) -> None:
    """After an edit of config.json the encoder runs again."""
    before = evaluate(run).rules["full"]
    flatten(run)
    opened = open_run(run)
    encoded, _ = run_examples(opened, "validation", None, lambda text: None)
    fresh = judged_anew(opened.model, opened.tokenizer, encoded, ["exact"], EvalSplit("accuracy"), batch_size=64)
    assert evaluate(run).rules["exact"].depths == fresh.rules["exact"].depths
    assert before.layers_mean == 3


def test_one_rule_is_in_force_everywhere(run: Path) -> None:
    found = ask(run, "risk=0.3,delta=0.2")
    rule = found["rule"]
    assert rule != "exact"
    assert AutoConfig.from_pretrained(run).rule == rule
    model = AutoModelForSequenceClassification.from_pretrained(run).eval()
    opened = open_run(run)
    batch = opened.tokenizer(["the key is old .", "the keys is old ."], return_tensors="pt", padding=True)
    exits = model(**batch).exit_layer.tolist()
    assert exits == [one.exit_layer for one in predict(["the key is old .", "the keys is old ."], run=run)]
    assert evaluate(run).rules[rule].certificate is not None
    (line,) = json.loads(dact("runs", run.parent, "--json").stdout)["runs"]
    judged = json.loads(dact("eval", run, "--json").stdout)["rules"][rule]
    assert (line["rule"], line["layers_mean"], line["metric"]) == (rule, judged["layers_mean"], judged["metric"])


LESS = [
    (("risk=0.31,delta=0.2",), "its risk is larger"),
    (("risk=0.3,delta=0.3",), "its delta is larger"),
    (("risk=0.3,delta=0.2,loss=harm",), "it bounds harm, not disagreement"),
    (("budget=2",), "a budget promises nothing"),
    (("risk=0.000001",), "no threshold of settled can be certified for a risk of 1e-06"),
]


@pytest.mark.parametrize(("arguments", "why"), LESS)
def test_a_promise_is_replaced_by_less_only_on_purpose(run: Path, arguments: tuple[str, ...], why: str) -> None:
    ask(run, "risk=0.3,delta=0.2")
    before = (run / CALIBRATION).read_bytes(), (run / "config.json").read_bytes()
    sentence = " ".join(ask(run, *arguments, code=2).split())
    assert why in sentence
    assert "the certificate of settled:" in sentence
    assert "is used instead" not in sentence  # it is kept
    assert "add --replace to give it up" in sentence
    assert ((run / CALIBRATION).read_bytes(), (run / "config.json").read_bytes()) == before
    ask(run, *arguments, "--replace")
    assert (run / CALIBRATION).read_bytes() != before[0]


def test_a_promise_that_leaves_out_classes_or_inputs_is_less(run: Path, splits: dict[str, list[Any]]) -> None:
    """Beside a promise over all examples, one by class without the small classes bounds less."""
    ask(run, "risk=0.3,delta=0.2")
    before, _ = load_calibration(open_run(run))
    assert before is not None
    lesser: dict[str, dict[str, Any]] = {
        "it leaves out classes": {"by_class": True, "small_classes": ["acceptable"]},
        "it holds under a condition": {"screened": ["train"]},
        "it is about inputs that training did not use": {"left_out": {"train": 1}},
    }
    for why, changes in lesser.items():
        with pytest.raises(WeakerCalibrationError, match=why):
            keep_calibration(open_run(run), replace(before, **changes), replace=False)
    assert load_calibration(open_run(run))[0] == before
    # the label of harm and the class at full depth are not the same classes
    harm = replace(before, by_class=True, loss="harm")
    keep_calibration(open_run(run), harm, replace=True)
    with pytest.raises(WeakerCalibrationError, match="bounds no harm by label"):
        keep_calibration(open_run(run), replace(harm, loss="disagreement"), replace=False)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_data_that_changed_since_training_are_not_those_of_training(
    run: Path, splits: dict[str, list[Any]], tmp_path: Path, split: str
) -> None:
    """What trained the model may be gone from the file by now, so the promise says what it depends on."""
    kept = {"train": splits["train"][:20], "dev": splits["validation"][:20]}[split]
    fewer = write(tmp_path / "fewer.jsonl", kept)
    recipe = run / "recipe.yaml"
    recipe.write_text(re.sub(rf"\S*{split}\.jsonl", str(fewer), recipe.read_text()))
    seen = write(tmp_path / "seen.jsonl", splits["calibration"][:600] + kept)
    result = dact("eval", run, "--calibrate", "risk=0.3,delta=0.2", "--data", seen, "--json")
    name = {"train": "train", "dev": "validation"}[split]
    assert f"{name} differs from the data this run was trained with" in " ".join(result.stderr.split())
    document = json.loads(result.stdout)
    assert name not in document["screened"]
    assert document["left_out"] == {name: 20}
    assert document["promise"].startswith("provided that no calibration example was used in training, ")


def test_a_larger_fraction_for_calibration_makes_no_fresh_examples(
    splits: dict[str, list[Any]], tmp_path: Path
) -> None:
    """Train is then drawn anew, and no longer holds the examples that trained the layers."""
    write(tmp_path / "train.jsonl", splits["train"] + splits["calibration"])
    write(tmp_path / "dev.jsonl", splits["validation"])
    write(tmp_path / "test.jsonl", splits["test"])
    text = TINY.replace("{source: builtin, max_length: 48, examples: 320}", FILES % 0.2)
    run = Path(train(tmp_path, text).run)
    first = calibrate(run, RiskRequest(0.3, 0.3))
    assert (first.certified or first.outdone is not None, first.condition) == (True, "")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("calibration: 0.2", "calibration: 0.5"))
    assert calibrate(run, RiskRequest(0.3, 0.3), replace=True).condition


def test_a_promise_for_every_class_is_not_replaced_by_one_over_all(run: Path) -> None:
    found = ask(run, "risk=0.4,delta=0.2,by=class")
    assert found["by_class"]
    assert found["certified"]
    assert set(found["classes"]) == {"unacceptable", "acceptable"}
    assert "it is not for every class" in ask(run, "risk=0.4,delta=0.2", code=2)


def test_an_option_that_weakens_a_promise_says_so(run: Path) -> None:
    Path("texts.txt").write_text("the key is old .\n")
    weakened = "with --max-layers 1 the promise of {} no longer holds"
    assert weakened.format("exact") in dact("predict", "texts.txt", "--run", run, "--max-layers", "1").stderr
    rule = ask(run, "risk=0.3,delta=0.2")["rule"]
    shown = dact("predict", "texts.txt", "--run", run, "--max-layers", "1").stderr
    assert weakened.format(rule) in " ".join(shown.split())
    assert "promise" not in dact("predict", "texts.txt", "--run", run, "--max-layers", "1", "--rule", "layer:2").stderr


def test_a_model_whose_training_is_not_known_promises_under_a_condition(
    run: Path, splits: dict[str, list[Any]], tmp_path: Path
) -> None:
    file = write(tmp_path / "fresh.jsonl", splits["calibration"])
    (run / "recipe.yaml").unlink()
    result = dact("eval", run, "--calibrate", "risk=0.3,delta=0.2", "--data", file, "--json")
    assert "dact cannot check whether it was trained on these examples" in " ".join(result.stderr.split())
    document = json.loads(result.stdout)
    assert document["screened"] == []
    assert document["promise"].startswith("provided that no calibration example was used in training, ")


def test_exact_stays_in_force_where_it_costs_no_more(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proven answer is worth more than a certified one, and replaces it without being asked to."""
    from dactcli.evaluation import calibrate as module

    certified = ask(run, "risk=0.3,delta=0.2")
    assert certified["certified"]
    monkeypatch.setattr(module, "_sound_layers", lambda measured: 1.0)  # as if everything were proven after layer 1
    found = ask(run, "risk=0.25,delta=0.2")
    assert (found["rule"], found["certified"], found["outdone"]) == ("exact", False, certified["rule"])
    assert "exact promises more and costs no more" in found["promise"]
    assert AutoConfig.from_pretrained(run).rule == "exact"
    assert "void" not in dact("eval", run).stderr
    (line,) = json.loads(dact("runs", run.parent, "--json").stdout)["runs"]
    assert line["rule"] == "exact"
