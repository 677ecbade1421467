"""The command line: every command on a small run, its JSON, its errors and exit codes, and a light `--help`."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from support import TINY, dact

COMMANDS = ("finetune", "eval", "profile", "inspect")


def test_a_newcomers_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    trained = dact("finetune", "tiny.yaml", "--json")
    assert trained.exit_code == 0, trained.stderr
    assert json.loads(trained.stdout)["run"] == "runs/tiny-1"
    assert "stage 1/2 joint: 10 steps" in trained.stderr

    judged = dact("eval", "--split", "test", "--json", "--output", "eval-test.json")
    document = json.loads(judged.stdout)
    assert document == json.loads(Path("eval-test.json").read_text())
    assert (document["split"], document["examples"], document["layers"]) == ("test", 3000, 3)
    assert sum(document["rules"]["exact"]["depths"]) == 3000
    assert document["rules"]["exact"]["agreement_with_full"] == 1

    looked = json.loads(dact("inspect", "the keys are old .", "", "--json").stdout)
    assert [entry["text"] for entry in looked] == ["the keys are old .", ""]
    for entry in looked:
        ran = entry["exit_layer"]
        for key in ("layer_probabilities", "halting", "remaining", "halting_weights", "answers"):
            assert len(entry[key]) == ran
        assert sum(entry["halting_weights"]) == pytest.approx(1, abs=1e-5)
        assert entry["label_name"] == ["unacceptable", "acceptable"][entry["label"]]
    assert looked[1]["notices"] == ["the text is empty"]

    timed = dact("profile", "--batch-size", "1,8", "--examples", "16", "--repeats", "2", "--warmup", "1", "--json")
    cases = json.loads(timed.stdout)["cases"]
    assert [case["batch_size"] for case in cases] == [1, 8]
    assert all(case["stock"]["latency_ms_p50"] > 0 for case in cases)
    assert all(sum(case["adaptive"]["depths"]) == 16 for case in cases)
    for case in cases:
        assert set(case["time_ratio_to_stock"]) == set(case["realised_share"]) == {"median", "low", "high"}
        assert all(case[way]["flops_per_example"] > 0 for way in ("stock", "full", "adaptive"))
        assert case["metric_name"] == "accuracy"
    (whole,) = json.loads(timed.stdout)["throughput"]
    assert whole["adaptive"]["depths"] == cases[0]["adaptive"]["depths"]

    resumed = dact("finetune", "tiny.yaml", "--resume")
    assert resumed.exit_code == 0
    assert "nothing to resume: runs/tiny-1 is finished" in resumed.stderr


def test_screens_name_what_matters(tiny_run: Path) -> None:
    shown = dact("inspect", "--run", tiny_run, "the key of the doctors is rusty .").stdout
    for part in ("weight", "left", "answer so far", "of 3 ran", "docs/how-to/read-the-output.md"):
        assert part in shown
    shown = dact("eval", tiny_run).stdout
    for part in (
        "rule",
        "accuracy",
        "majority class",
        "last layer",
        "mixture of all",
        "exact",
        "paper",
        "difficulty",
        "recall",
    ):
        assert part in shown


def test_files_and_several_runs(tiny_run: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    data.write_text("sentence,label\nthe keys are old .,acceptable\nthe keys is old .,0\n")
    document = json.loads(dact("eval", tiny_run, tiny_run, "--data", data, "--rule", "layer:1", "--json").stdout)
    assert [one["examples"] for one in document] == [2, 2]
    assert document[0]["split"] == "mine.csv"
    assert document[0]["rules"]["layer:1"]["layers_mean"] == 1
    texts = [entry["text"] for entry in json.loads(dact("inspect", "--run", tiny_run, "--file", data, "--json").stdout)]
    assert texts == ["the keys are old .", "the keys is old ."]
    unlabelled = tmp_path / "texts.jsonl"
    unlabelled.write_text('{"sentence": "the keys are old ."}\n')
    document = json.loads(dact("eval", tiny_run, "--data", unlabelled, "--json").stdout)
    assert document["rules"]["exact"]["metric"] is None


def test_a_long_text_is_cut_and_said_so(tiny_run: Path) -> None:
    (entry,) = json.loads(dact("inspect", "--run", tiny_run, "the key " * 60, "--json").stdout)
    assert entry["tokens"] == 48
    assert entry["notices"] == ["longer than 48 tokens: only the first 48 were read"]


def test_dry_run_prints_a_recipe_that_can_be_run(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    shown = dact("finetune", recipe, "--dry-run", "--set", "dact.tau=0.2")
    assert "stage 2 units: trains exit heads" in shown.stderr
    (tmp_path / "again.yaml").write_text(shown.stdout)
    assert dact("finetune", tmp_path / "again.yaml", "--dry-run").stdout == shown.stdout
    assert "tau: 0.2" in shown.stdout
    assert not (tmp_path / "runs").exists()


def test_every_recipe_of_the_project_is_complete(tmp_path: Path) -> None:
    recipes = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
    assert len(recipes) >= 3
    for recipe in recipes:
        shown = dact("finetune", recipe, "--dry-run", "--json")
        assert shown.exit_code == 0, shown.stderr
        document = json.loads(shown.stdout)
        assert document["stages"]
        task, source = document["recipe"]["task"], document["recipe"]["data"]["source"]
        assert task["labels"] or task["range"] or source == "files"  # then the data's
        assert recipe.read_text().startswith("# dact finetune recipes/")


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"sentence": f"word {n}", "label": ["[bug] report", "a[/b]"][n % 2]} for n in range(40)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(
        "data: {source: files, train: train.jsonl, validation: 0.2}\n"
        "model: {encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16}}\n"
        "training: {epochs: 1}\n"
    )
    assert dact("finetune", "r.yaml").exit_code == 0
    shown = dact("inspect", "word 3").stdout
    assert "[bug] report" in shown or "a[/b]" in shown


def test_calibration_becomes_the_default_until_the_weights_change(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    found = json.loads(dact("eval", run, "--calibrate", "risk=0.05,delta=0.1", "--json").stdout)
    assert found["examples"] == 1500
    assert found["certified"]
    assert found["rule"].startswith("settled:")
    assert "with probability at least 0.9 over the draw" in found["promise"]
    judged = json.loads(dact("eval", run, "--json").stdout)["rules"]
    assert judged[found["rule"]]["certificate"]["epsilon"] == 0.05
    assert judged["exact"]["certificate"] is None
    (entry,) = json.loads(dact("inspect", "--run", run, "the keys are old .", "--json").stdout)
    assert entry["rule"] == found["rule"]
    refused = dact("eval", run, "--calibrate", "budget=2")
    assert refused.exit_code == 2
    assert "a budget promises nothing; the certificate of settled:" in refused.stderr
    assert "add --replace to give it up" in refused.stderr
    assert json.loads(dact("eval", run, "--json").stdout)["rules"][found["rule"]]["certificate"]["certified"]
    assert "of 3 layers on average" in dact("eval", run, "--calibrate", "budget=2", "--replace").stdout

    config = json.loads((run / "tokenizer_config.json").read_text())
    (run / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 40}))
    result = dact("inspect", "--run", run, "the keys are old .", "--json")
    assert "void, because the tokenizer files, max_length changed; calibrate again" in result.stderr
    assert json.loads(result.stdout)[0]["rule"] == "exact"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--calibrate", "risk=2"], "--calibrate: risk is '2'; give a number between 0 and 1"),
        (["--calibrate", "risk"], "--calibrate: 'risk' is not understood; write risk=0.01,delta=0.05"),
        (["--calibrate", "budget=2,delta=0.1"], "is not understood"),
        (["--calibrate", "risk=0.1,loss=harmful"], "--calibrate: loss 'harmful' is unknown; did you mean harm?"),
        (["--calibrate", "budget=9"], "a budget of 9 layers does not fit a model of 3; give a number from 1 to 3"),
        (["--calibrate", "risk=0.1", "--split", "train"], "the train split served training"),
        (["--calibrate", "risk=0.1", "--rule", "exact"], "rule exact has no threshold to choose"),
        (["--calibrate", "risk=0.1", "--rule", "entropy:0.1"], "entropy:0.1 has a threshold already; write entropy"),
        (["--compare", "--rule", "exact"], "--compare: cannot be combined with --rule"),
        (["--calibrate", "risk=0.1", "--data", "TRAIN"], "no example is left to calibrate on: of 50, 50 also in train"),
        (["--calibrate", "risk=0.1", "--split", "test"], "--split: the test split is for judging"),
        (["--calibrate", "risk=0.1,by=label"], "'by=label' is not understood"),
        (["--replace"], "--replace: requires --calibrate"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    arguments: list[str], sentence: str, tiny_run: Path, tmp_path: Path
) -> None:
    from dactcli.data.agreement import generate

    seen = tmp_path / "seen.jsonl"
    rows = generate(train=320)["train"][:50]
    seen.write_text("".join(json.dumps({"sentence": row.sentence}) + "\n" for row in rows))
    result = dact("eval", tiny_run, *(a.replace("TRAIN", str(seen)) for a in arguments))
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_comparing_rules_needs_no_encoder(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    first = dact("eval", run, "--compare", "--split", "test", "--json", "--plots", "curves")
    document = json.loads(first.stdout)
    assert {"exact", "paper", "confidence", "slack", "entropy", "max_prob", "patience", "layer"} <= set(
        document["rules"]
    )
    assert document["reference_kind"] == "full depth"
    best = next(iter(document["rules"].values()))
    assert best["area_difference_to_best"] == {"median": 0, "low": 0, "high": 0, "layers_from": 1}
    assert document["rules"]["exact"]["area"] is None
    assert document["rules"]["exact"]["metric_at"]["0.25"] is None
    assert "measurements on test" in document["notices"][0]
    assert {path.name for path in Path("curves").iterdir()} == {"curves.png", "curves.svg"}
    assert len(list((run / "outputs").glob("test-*.safetensors"))) == 1
    from dactcli.model.dact import DactForSequenceClassification

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(DactForSequenceClassification, "layer_states", refuse)
    again = dact("eval", run, "--compare", "--split", "test")
    assert "fewest mean layers that keep 99%" in " ".join(again.stdout.split())
    assert "the full depth of" in again.stdout


def test_a_sweep_skips_what_is_finished_and_reports_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    arguments = ["finetune", "tiny.yaml", "--set", "data.examples=64", "--sweep", "dact.tau=0.01,0.5", "--json"]
    document = json.loads(dact(*arguments).stdout)
    assert [run["values"] for run in document["runs"]] == [{"dact.tau": "0.01"}, {"dact.tau": "0.5"}]
    assert {Path(run["run"]).name for run in document["runs"]} == {"tiny-tau-0.01-1", "tiny-tau-0.5-1"}
    assert set(document["front"]) <= {run["run"] for run in document["runs"]}
    assert document["front"]
    again = dact(*arguments[:-1])
    assert again.stderr.count("is finished, and skipped") == 2
    assert "stage" not in again.stderr
    assert "no other run is better with as few layers" in again.stdout
    assert json.loads(Path("runs/tiny-sweep/sweep.json").read_text()) == document


@pytest.mark.parametrize("sweep", ["dact.tau", "dact.tau=", "=1,2", "dact.tau=1,,2"])
def test_a_sweep_that_is_none_is_refused(sweep: str, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    result = dact("finetune", recipe, "--sweep", sweep)
    assert result.exit_code == 2
    assert "is not understood; write KEY=V1,V2" in result.stderr


def test_seeds_give_mean_and_spread_and_are_skipped_when_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    arguments = ["finetune", "tiny.yaml", "--set", "data.examples=64", "--seeds", "3,5"]
    document = json.loads(dact(*arguments, "--json").stdout)
    assert document["sweep"] == ["training.seed=3,5"]
    (summary,) = document["over_seeds"]
    assert (summary["values"], summary["seeds"]) == ({}, ["3", "5"])
    for rule in ("full", "paper", "exact"):
        for figure in ("metric", "layers_mean", "agreement_with_full"):
            values = [run["rules"][rule][figure] for run in document["runs"]]
            assert summary["rules"][rule][figure]["mean"] == pytest.approx(statistics.mean(values))
            assert summary["rules"][rule][figure]["sd"] == pytest.approx(statistics.stdev(values))
    again = dact(*arguments)
    assert again.stderr.count("is finished, and skipped") == 2
    assert "mean (standard deviation) over 2 seeds" in again.stdout
    assert "*:" not in again.stdout, "a seed is no choice"
    more = json.loads(dact(*arguments[:-1], "3,5,6", "--set", "training.max_steps=2", "--json").stdout)
    assert len(more["over_seeds"][0]["seeds"]) == 3


def test_a_random_sweep_draws_the_same_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    short = ["--set", "data.examples=64", "--set", "training.max_steps=1"]
    drawn = ["--sweep", "dact.tau=1e-6..1e-4", "--sweep", "training.batch_size=8,16", "--sweep-random"]
    document = json.loads(dact("finetune", "tiny.yaml", *short, *drawn, "1", "--json").stdout)
    assert document["drawn"] == 1
    again = dact("finetune", "tiny.yaml", *short, *drawn, "2", "--json")
    assert again.stderr.count("is finished, and skipped") == 1
    assert json.loads(again.stdout)["runs"][0] == document["runs"][0]
    assert 1e-6 <= float(document["runs"][0]["values"]["dact.tau"]) <= 1e-4


def test_a_sweep_over_runs_with_and_without_dact_compares_them_at_full_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    short = ["--set", "data.examples=64", "--set", "training.max_steps=1"]
    document = json.loads(dact("finetune", "tiny.yaml", *short, "--sweep", "dact.tau=0.01,null", "--json").stdout)
    assert document["rule"] == "full"
    assert [list(run["rules"]) for run in document["runs"]] == [["full", "paper", "exact"], ["full"]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seeds", "0,x"], "--seeds: '0,x' is not understood; write for example 0,1,2"),
        (["--seeds", ""], "--seeds: '' is not understood"),
        (["--seeds", "0,1", "--dry-run"], "--seeds: cannot be combined with --dry-run"),
        (["--sweep", "dact.tau=1,2", "--dry-run"], "--sweep: cannot be combined with --dry-run"),
        (["--seeds", "0,1", "--sweep", "training.seed=2,3"], "--seeds: training.seed is swept as well"),
        (["--sweep-random", "3"], "--sweep-random: requires --sweep"),
        (["--sweep", "dact.tau=1,2", "--sweep-random", "0"], "--sweep-random: is 0; give at least 1"),
        (["--sweep", "dact.tau=1,2", "--sweep-random", "3"], "--sweep-random: is 3, and the values have 2"),
        (["--sweep", "dact.tau=2..1", "--sweep-random", "3"], "--sweep: the range of dact.tau is 2..1"),
        (["--sweep", "dact.tau=1..2"], "dact.tau"),
        (["--seeds", "-1,0"], "training.seed"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_training(
    options: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    result = dact("finetune", "tiny.yaml", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not Path("runs").exists()


QUICK = ("--batch-size", "2", "--examples", "4", "--repeats", "2", "--warmup", "0")


def test_pictures_of_depths_and_times(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    judged = dact("eval", tiny_run, "--split", "test", "--plots", "pictures")
    assert "written: pictures/depths.png, pictures/depths.svg" in judged.stderr
    timed = dact("profile", tiny_run, *QUICK, "--plots", "pictures")
    assert "written: pictures/times.png, pictures/times.svg" in timed.stderr
    assert all(path.stat().st_size > 4000 for path in Path("pictures").iterdir())
    two = dact("eval", tiny_run, tiny_run, "--plots", "each", "--json")
    assert len(json.loads(two.stdout)) == 2
    assert {path.name for path in Path("each", tiny_run.name).iterdir()} == {"depths.png", "depths.svg"}
    for refused in (("eval", tiny_run, "--calibrate", "budget=2"), ("profile", tiny_run, "--train")):
        assert dact(*refused, "--plots", "no").exit_code == 2
    assert not Path("no").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["eval", "--splt", "test"], "error: dact eval: there is no option --splt; did you mean --split?"),
        (["--verson"], "error: dact: there is no option --verson; did you mean --version?"),
        (["finetune"], "error: dact finetune: missing argument 'RECIPE'; see dact finetune --help"),
        (
            ["finetune", "x.yaml", "-q", "-v"],
            "error: --quiet: cannot be combined with --verbose; leave one of them out",
        ),
    ],
)
def test_a_command_line_that_does_not_fit_gets_one_sentence(arguments: list[str], sentence: str) -> None:
    result = dact(*arguments)
    assert result.exit_code == 2
    assert result.stderr.strip() == sentence


def test_quiet_and_verbose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    few = ("--set", "data.examples=64")
    quiet = dact("finetune", "tiny.yaml", *few, "--quiet")
    (warning,) = quiet.stderr.splitlines()
    assert "of validation stops after layer" in warning  # 64 examples teach the halting nothing
    assert "saved in runs/tiny-1" in quiet.stdout
    verbose = dact("finetune", "tiny.yaml", *few, "--verbose")
    units = [line for line in verbose.stderr.splitlines() if line.startswith("stage 2/2 units step")]
    assert units
    for part in ("loss", "layers", "rate", "gradient", "epoch", "examples/s", "weights"):
        assert part in units[-1]
    logged = [json.loads(line) for line in Path("runs/tiny-2/metrics.jsonl").read_text().splitlines()]
    last = [line for line in logged if "halting_weights" in line][-1]
    assert sum(last["halting_weights"]) == pytest.approx(1, abs=1e-5)
    assert last["examples_per_second"] > 0


def test_random_weights_are_profiled_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = dact("profile", "--random", "bert-tiny", "--depths", "1,2,2", "--sequence-length", "8", *QUICK)
    assert shown.exit_code == 0
    for part in (
        "rule depths",
        "batch 2, 8 tokens",
        "speed-up",
        "where the adaptive time goes",
        "throughput, whole",
    ):
        assert part in shown.stdout
    monkeypatch.setattr("dactcli.api.profile.FALLBACK", "bert-tiny")
    fallen = dact("profile", "--json", *QUICK)
    assert "random bert-tiny weights at forced depths" in fallen.stderr
    assert json.loads(fallen.stdout)["cases"][0]["adaptive"]["depths"] == [2, 2]


def test_training_steps_and_earlier_profiles(tiny_run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "earlier.json"
    assert dact("profile", tiny_run, *QUICK, "--output", kept, "--json").exit_code == 0
    before = torch.get_num_threads()
    shown = dact("profile", tiny_run, *QUICK, "--baseline", kept, "--dtype", "bf16", "--threads", str(before + 1))
    assert shown.exit_code == 0
    assert f"threads {before + 1}" in shown.stdout
    assert torch.get_num_threads() == before
    assert "time against stock, now / baseline" in shown.stdout
    assert "the baseline was taken elsewhere (" in shown.stderr
    trained = dact("profile", tiny_run, "--train", *QUICK, "--sequence-length", "12")
    assert trained.exit_code == 0
    for part in ("training step, batch 2, 12 tokens", "time, plain = 1", "ms, backward", "peak memory, MiB"):
        assert part in trained.stdout


def test_a_profile_says_how_long_it_takes_and_on_how_many(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a round is measured; every bar has the name of its case."""
    from contextlib import contextmanager

    heard: list[str] = []

    @contextmanager
    def counting(description: str) -> Any:
        heard.append(description)
        yield lambda done, total: None

    monkeypatch.setattr("dactcli.report.console.counting", counting)
    monkeypatch.setattr("dactcli.report.console.print_notice", heard.append)
    few = dact("profile", tiny_run, "--batch-size", "2,4", "--examples", "8", "--repeats", "2", "--warmup", "0")
    assert re.fullmatch(r"about \d+ seconds?: 2 rounds of 8 examples for each case", heard[0])
    assert heard[1:4] == ["latency, batch 2", "latency, batch 4", "throughput, 8 examples"]
    assert "throughput, 8 of 1,500 examples, real lengths" in few.stdout
    heard.clear()
    whole = dact(
        "profile", tiny_run, "--train", "--batch-size", "300", "--examples", "9999", "--repeats", "2", "--json"
    )
    assert "rounds of 1,500 examples" in heard[0]
    assert heard[1] == "training step, batch 300"
    document = json.loads(whole.stdout)
    assert (document["examples"], document["available"]) == (1500, 1500)


def test_a_trace_that_tensorboard_and_perfetto_open(tiny_run: Path, tmp_path: Path) -> None:
    result = dact(
        "profile", tiny_run, "--batch-size", "4", "--examples", "8", "--repeats", "2", "--trace", tmp_path / "trace"
    )
    assert result.exit_code == 0
    (written,) = (tmp_path / "trace").glob("*.pt.trace.json")
    assert f"tensorboard --logdir {tmp_path / 'trace'}" in result.stderr
    events = [event for event in json.loads(written.read_text())["traceEvents"] if event.get("ph") == "X"]
    names = [event["name"] for event in events]
    assert {"dact.stock", "dact.full", "dact.adaptive", "aten::linear"} <= set(names)
    assert {f"ProfilerStep#{step}" for step in range(6)} <= set(names)  # two batches of each way
    for way in ("stock", "full"):
        spans = [(event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == f"dact.{way}"]
        assert len(spans) == 2
        for begin, end in spans:
            inside = [event for event in events if begin <= event["ts"] <= end]
            layers = sorted((event["ts"], event["name"]) for event in inside if event["name"].startswith("dact.layer."))
            assert [name for _, name in layers] == [f"dact.layer.{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["finetune", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["finetune", "RECIPE", "--set", "training.batchsize=3"], 2, "did you mean batch_size?"),
        (["finetune", "RECIPE", "--resume"], 3, "there is no run to resume; leave out --resume"),
        (["finetune", "RECIPE", "--device", "cuda", "--set", "training.epochs=1"], 5, "--device cuda: "),
        (
            ["eval"],
            3,
            "runs/latest: there is no finished run in this folder; name one, or make one with: dact finetune",
        ),
        (["eval", "RUN", "--split", "tset"], 2, "--split: split 'tset' is unknown; did you mean test?"),
        (["eval", "RUN", "--rule", "exakt"], 2, "--rule: rule 'exakt' is unknown; did you mean exact?"),
        (["eval", "RUN", "--data", "gone.csv"], 2, "gone.csv"),
        (["eval", "RUN/config.json"], 3, "is a file, not a run; give a run: "),
        (["inspect"], 2, 'there is no text to inspect; write dact inspect "some sentence"'),
        (["inspect", "a", "b", "--pair", "c"], 2, "--pair: requires exactly one TEXT"),
        (["profile", "RUN", "--batch-size", "0,x"], 2, "--batch-size: '0,x' is not a list of sizes"),
        (["profile", "RUN", "--random", "bert-base"], 2, "a run and --random cannot be combined; give one of them"),
        (["profile", "--random", "bert-huge"], 2, "--random: geometry 'bert-huge' is unknown"),
        (["profile", "--random", "bert-tiny", "--rule", "exact"], 2, "--rule: random weights halt at forced depths"),
        (["profile", "--random", "bert-tiny", "--data", "x.csv"], 2, "--data: random weights read no texts"),
        (["profile", "RUN", "--depths", "9"], 2, "--depths: '9' is not a list of depths from 1 to 3"),
        (["profile", "RUN", "--dtype", "int8"], 2, "--dtype: type 'int8' is unknown"),
        (["profile", "RUN", "--baseline", "none.json"], 2, "--baseline none.json: cannot be read"),
        (["profile", "RUN", "--device", "cuda"], 5, "--device cuda: "),
        (["profile", "RUN", "--device", "gpu"], 2, "--device: device 'gpu' is unknown"),
    ],
)
def test_errors_are_one_sentence_with_their_exit_code(
    arguments: list[str], code: int, sentence: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == 5 and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    result = dact(*(a.replace("RECIPE", str(recipe)).replace("RUN", str(tiny_run)) for a in arguments))
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = dact(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f": dact {command} " in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["eval", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom dactcli.cli.app import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dactcli", "--version"], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.startswith("dact 0.1.0")


def test_a_file_is_judged_in_place_of_a_split(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("sentence,label\nthe key is old .,acceptable\n")
    done = dact("eval", tiny_run, "--data", tmp_path / "own.csv", "--split", "test")
    assert done.exit_code == 2
    assert "--data: cannot be combined with --split; leave one of them out" in done.stderr


def test_a_run_whose_folder_takes_no_outputs_is_judged_all_the_same(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*values: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("outputs"))
    monkeypatch.setattr("safetensors.torch.save_file", full)
    done = dact("eval", run, "--split", "test")
    assert done.exit_code == 0, done.stderr
    assert not list((run / "outputs").iterdir())


@pytest.mark.parametrize("key", ["training.batch_size", "training.accumulate", "evaluation.batch_size"])
def test_numbers_beyond_all_machines_are_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = dact("finetune", tmp_path / "tiny.yaml", "--set", f"{key}=99999999999999999999")
    assert done.exit_code == 2
    assert f"{key} must be a whole number of at least 1 and at most 1000000" in done.stderr


def test_plain_models_explain_why_they_do_not_halt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(TINY[: TINY.index("  stages:")] + "  epochs: 1\ndact: null\noutput: {name: plain}\n")
    assert dact("finetune", "plain.yaml", "--set", "data.examples=32").exit_code == 0
    result = dact("eval", "--rule", "exact")
    assert result.exit_code == 2
    assert "this model was fine-tuned on its last layer only" in result.stderr
    (entry,) = json.loads(dact("inspect", "the key is old .", "--json").stdout)
    assert entry["exit_layer"] == 3
    assert entry["halting_weights"] == [0, 0, 1]
    assert entry["scores"] == [None, None, None]


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    from dactcli.training.trainer import DactTrainer

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DactTrainer, "training_step", interrupt)
        result = dact("finetune", "tiny.yaml")
    assert result.exit_code == 130
    assert "the same command with --resume continues" in result.stderr
    assert dact("finetune", "tiny.yaml", "--resume").exit_code == 0


def test_a_misspelt_command_is_understood() -> None:
    wrong = dact("finetun", "x.yaml")
    assert wrong.exit_code == 2
    assert "dact: there is no command 'finetun'; did you mean finetune?" in wrong.stderr


def test_the_versions_are_named() -> None:
    shown = dact("--version").stdout
    assert f"torch {version('torch')}" in shown  # torch.__version__ may name its CUDA as well
    cuda = torch.version.cuda or "not in this torch"
    assert f"CUDA {cuda}" in shown
