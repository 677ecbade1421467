"""Predictions by workers of a Ray cluster: every row once, in order, answered as the local engine does."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from support import dact, shared, train

import dactcli
from dactcli import CalibrateRequest, RiskRequest
from dactcli.api import cluster_outputs
from dactcli.api.cluster import AnswersWorker, _packed
from dactcli.api.common import open_any
from dactcli.api.predict import PredictFilesRequest
from dactcli.api.workers import BlockWorker, SharedModel
from dactcli.data.agreement import generate
from dactcli.data.batches import by_length
from dactcli.data.blocks import cut_into_blocks
from dactcli.data.inputs import find_inputs
from dactcli.errors import ResourceError, UsageError
from dactcli.evaluation.examples import run_examples
from dactcli.prediction.folder import NOTE, AnswerFolder
from dactcli.prediction.forms import free_names
from dactcli.results import PredictedFile
from dactcli.runs.identity import identify

COUNT = 260
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs dactcli[ray]")
RULE = "max_prob:0.6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and texts in two files."""
    home = tmp_path_factory.mktemp("cluster")
    train(home / "run")
    made = [one.sentence for one in generate(train=COUNT)["train"]]
    lines = [json.dumps({"sentence": text, "id": n}) + "\n" for n, text in enumerate(made)]
    (home / "one.jsonl").write_text("".join(lines[:200]))
    (home / "two.jsonl").write_text("".join(lines[200:]))
    (home / "all.csv").write_text("sentence,id\n" + "".join(f'"{text}",{n}\n' for n, text in enumerate(made)))
    return shared(home)


def run_of(folder: Path) -> Path:
    return next((folder / "run" / "runs").glob("*-1"))


def rows_of(place: Path) -> list[dict[str, Any]]:
    """The rows of a folder of predictions, file by file."""
    found = []
    for part in sorted(place.glob("part-*")):
        if part.suffix == ".parquet":
            found += pq.read_table(part).to_pylist()
        else:
            found += [json.loads(line) for line in part.read_text().splitlines()]
    return found


def local(folder: Path, tmp_path: Path, *names: str, **fields: Any) -> list[dict[str, Any]]:
    """The rows as the local engine answers them."""
    inputs, output = [str(folder / name) for name in names], tmp_path / "local.jsonl"
    dactcli.predict_files(inputs, run=run_of(folder), rule=RULE, output=output, **fields)
    return [json.loads(line) for line in output.read_text().splitlines()]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """The same rows in the same order, with the same answers."""
    names = ("sentence", "id", "label", "exit_layer")
    told = [[str(row[name]) for name in names] for row in found]
    assert told == [[str(row[name]) for name in names] for row in wanted]


def worked(
    folder: Path,
    place: AnswerFolder,
    inputs: list[str],
    rows: int,
    *,
    other: dict[str, str] | None = None,
    **fields: Any,
) -> list[dict[str, Any]]:
    """What a worker says of each block, here without Ray; the driver's model is its own but for what is given."""
    request = PredictFilesRequest(rule=RULE, device="cpu", **fields)
    names = free_names(["sentence", "id"], request.answers.names, error=request.skips)
    run = run_of(folder)
    own = {"place": str(run), "digest": identify(open_any(run, device="cpu")).digest, "rule": RULE}
    worker = AnswersWorker(SharedModel(**{**own, **(other or {})}), request, place, names)
    blocks = cut_into_blocks(find_inputs(inputs), rows)
    told = [worker({"number": number, "block": _packed(block)}) for number, block in enumerate(blocks)]
    return [json.loads(one["error"]) if one["error"] else json.loads(one["found"]) for one in told]


@pytest.mark.parametrize("names", [("one.jsonl", "two.jsonl"), ("all.csv",)])
def test_blocks_are_answered_as_whole_files_are(names: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    inputs = [str(folder / name) for name in names]
    place = AnswerFolder.of(str(tmp_path / "answers"), find_inputs(inputs))
    place.begin({}, resume=False, overwrite=False)
    told = worked(folder, place, inputs, 33)
    assert sum(one["predictions"] for one in told) == COUNT
    assert {path.suffix for path in (tmp_path / "answers").glob("part-*")} == {
        ".jsonl" if len(names) == 2 else ".parquet"
    }
    same(rows_of(tmp_path / "answers"), local(folder, tmp_path, *names))


def test_a_block_that_runs_again_leaves_one_file(folder: Path, tmp_path: Path) -> None:
    inputs, place = [str(folder / "one.jsonl")], AnswerFolder(str(tmp_path / "answers"), "jsonl")
    place.begin({}, resume=False, overwrite=False)
    worked(folder, place, inputs, 70)
    before = {path.name: path.read_bytes() for path in (tmp_path / "answers").glob("part-*")}
    (tmp_path / "answers" / "part-000001.jsonl.part").write_text('{"half": ')  # as a killed worker leaves it
    worked(folder, place, inputs, 70)
    assert {path.name: path.read_bytes() for path in (tmp_path / "answers").glob("part-*")} == before


def test_a_folder_behind_an_address(folder: Path, tmp_path: Path) -> None:
    inputs, place = [str(folder / "one.jsonl")], AnswerFolder(f"file://{tmp_path}/answers", "jsonl")
    place.begin({"rule": RULE}, resume=False, overwrite=False)
    worked(folder, place, inputs, 120)
    assert place.begin({"rule": RULE}, resume=True, overwrite=False) == {"part-000000.jsonl", "part-000001.jsonl"}
    assert place.count("part-000001.jsonl", "label") == (80, 0)
    place.finish({"rule": RULE})
    assert place.complete() is not None
    same(rows_of(tmp_path / "answers"), local(folder, tmp_path, "one.jsonl"))
    place.begin({"rule": RULE}, resume=False, overwrite=True)
    assert not list((tmp_path / "answers").glob("part-*"))


def test_a_bad_row_is_named_by_its_line_or_marked(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "one.jsonl").read_text().splitlines(keepends=True)
    source = tmp_path / "bad.jsonl"
    source.write_text("".join([*lines[:150], '{"sentence": 7, "id": 150}\n', *lines[150:]]))
    place = AnswerFolder(str(tmp_path / "answers"), "jsonl")
    place.begin({}, resume=False, overwrite=False)
    told = worked(folder, place, [str(source)], 60)
    errors = [one for one in told if "fault" in one]
    assert [error["place"] for error in errors] == [f"{source}:151"]
    told = worked(folder, place, [str(source)], 60, on_error="skip")
    assert [one["skipped"] for one in told] == [0, 0, 1, 0]
    assert place.count("part-000002.jsonl", "label") == (60, 1)
    row = rows_of(tmp_path / "answers")[150]
    assert (row["label"], row["id"]) == (None, 150)
    assert "not text" in row["error"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"engine": "dask"}, "'dask' is unknown"),
        ({"engine": "ray"}, "writes into a folder"),
        ({"workers": 2}, "is for `engine` ray"),
        ({"engine": "ray", "output": "x", "workers": 0}, "`workers`: is 0"),
        ({"batch_tokens": 0}, "`batch_tokens`: is 0"),
        ({"batch_tokens": 2.5}, "`batch_tokens`: is 2.5; give a whole number of at least 1"),
        ({"batch_tokens": "5"}, "`batch_tokens`: is '5'; give a whole number"),
        ({"engine": "ray", "output": "x", "gpus_per_worker": float("nan")}, "`gpus_per_worker`: is nan; give a number"),
        ({"engine": "ray", "output": "x", "device": "cuda"}, "`device` cuda: is not for `engine` ray"),
    ],
)
def test_requests_that_do_not_fit(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        PredictFilesRequest(**fields)
    assert sentence in caught.value.sentence


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for name, fault in (("mine", "is not a folder of predictions"), ("file", "is a file")):
        with pytest.raises(UsageError, match=fault):
            AnswerFolder(str(tmp_path / name), "jsonl").begin({}, resume=False, overwrite=True)
    place = AnswerFolder(str(tmp_path / "new"), "jsonl")
    place.begin({"rule": "a"}, resume=False, overwrite=False)
    with pytest.raises(UsageError, match="holds predictions"):
        place.begin({"rule": "a"}, resume=False, overwrite=False)
    with pytest.raises(UsageError, match="was begun with different rule"):
        place.begin({"rule": "b"}, resume=True, overwrite=False)
    with pytest.raises(ResourceError, match="cannot be written"):
        AnswerFolder("nowhere://bucket/answers", "jsonl").begin({}, resume=False, overwrite=False)


@needs_ray
def test_what_would_be_lost_is_refused_before_anything_is_touched(folder: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.mkdir()
    mine = answers / "mine.jsonl"
    mine.write_text((folder / "two.jsonl").read_text())
    done = dact("predict", mine, "--run", run_of(folder), "--engine", "ray", "--output", answers, "--overwrite")
    assert (done.exit_code, mine.is_file()) == (2, True)
    assert f"holds the input {mine}" in done.stderr
    place = AnswerFolder(str(tmp_path / "earlier"), "jsonl")
    place.begin({}, resume=False, overwrite=False)
    (tmp_path / "earlier" / "part-000000.jsonl").write_text("{}")
    words = ["predict", mine, "--run", run_of(folder), "--engine", "ray", "--output", tmp_path / "earlier"]
    misspelt = dact(*words, "--overwrite", "--text", "sentense")
    assert misspelt.exit_code == 2
    assert "no column sentense" in misspelt.stderr
    assert (tmp_path / "earlier" / "part-000000.jsonl").is_file()


def test_an_address_reaches_the_engine_as_it_was_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def seen(inputs: Any, request: PredictFilesRequest, **_: Any) -> Any:
        found.append(request.output)
        return PredictedFile("answers", "full", 0)

    monkeypatch.setattr("dactcli.api.cluster.predict_on_ray", seen)
    words = ["predict", folder / "one.jsonl", "--run", run_of(folder), "--engine", "ray"]
    assert dact(*words, "--output", "s3://bucket/answers").exit_code == 0
    assert found == ["s3://bucket/answers"]


def test_later_rows_with_a_column_of_an_answer_are_refused(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "one.jsonl").read_text().splitlines(keepends=True)
    source = tmp_path / "late.jsonl"
    source.write_text("".join([*lines[:60], *(line.replace('"id"', '"label"') for line in lines[60:])]))
    place = AnswerFolder(str(tmp_path / "answers"), "jsonl")
    place.begin({}, resume=False, overwrite=False)
    errors = [one["fault"] for one in worked(folder, place, [str(source)], 60) if "fault" in one]
    assert errors
    assert all("later rows have a column label" in fault for fault in errors)


class Here:
    """A pool whose workers are one, in this process, and which gives its answers in another order than it got them."""

    def answers(self, worker: type[BlockWorker], arguments: dict[str, Any], items: list[Any]) -> Iterator[bytes]:
        made = worker(**arguments)
        for item in reversed(items):
            row = made(item)
            assert not row["error"]
            yield row["found"]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 40 examples, answered here, on the processor."""
    monkeypatch.setattr(cluster_outputs, "open_any", lambda run, device: open_any(run, device="cpu"))
    monkeypatch.setattr(cluster_outputs, "EXAMPLES", 40)
    monkeypatch.setattr(cluster_outputs, "check_ray", lambda: None)
    monkeypatch.setattr(cluster_outputs, "connected", lambda cluster: nullcontext(Here()))


@pytest.mark.usefixtures("without_ray")
def test_workers_evaluate_and_calibrate_as_one_process_does(folder: Path, tmp_path: Path) -> None:
    run, data = copytree(run_of(folder), tmp_path / "copy"), tmp_path / "labelled.jsonl"
    made = generate(test=COUNT)["test"]
    data.write_text("".join(json.dumps({"sentence": one.sentence, "label": one.label}) + "\n" for one in made))
    place = run / "outputs"
    fields: dict[str, Any] = {"data": data, "rules": ["full", "exact", RULE]}
    wanted = dactcli.evaluate(run, **fields).to_json()
    kept = list(place.glob("labelled-*"))
    assert len(kept) == 1
    kept[0].unlink()
    found = dactcli.evaluate(run, **fields, engine="ray").to_json()
    assert found["rules"] == wanted["rules"]
    assert list(place.glob("labelled-*")) == kept  # for the next evaluation, and for --compare
    kept[0].unlink()
    request = CalibrateRequest(RiskRequest(0.5), data=data, engine="ray", replace=True)
    certified = dactcli.calibrate(run, request)
    kept[0].unlink()
    assert certified.threshold == dactcli.calibrate(run, replace(request, engine="local")).threshold
    kept[0].unlink()
    dactcli.evaluate(run, **fields, engine="ray", gpus_per_worker=0.5)
    assert not list(place.glob("labelled-*"))  # the name would say that a processor computed them


def test_what_is_wrong_with_a_worker_is_told(folder: Path, tmp_path: Path) -> None:
    run = dactcli.open_run(run_of(folder))
    encoded, _ = run_examples(run, "train", None, print)
    item = {"start": 40, "examples": pickle.dumps(encoded.select(range(40, 60)))}
    missing = cluster_outputs.OutputsWorker(SharedModel(str(run.folder / "gone"), "another"), "cpu", 8)
    assert json.loads(missing(item)["error"])["kind"] == "ArtefactError"  # as its own sentence, not Ray's
    worker = cluster_outputs.OutputsWorker(SharedModel(str(run.folder), "another"), "cpu", 8)
    told = json.loads(worker(item)["error"])
    assert (told["kind"], told["fault"]) == ("ArtefactError", "is another model where a worker runs")
    place = AnswerFolder.of(str(tmp_path / "refused"), find_inputs([str(folder / "all.csv")]))
    place.begin({}, resume=False, overwrite=False)
    refused = [
        ({"digest": "another"}, "is another model where a worker runs"),
        ({"rule": "exact"}, f"halts by {RULE} where a worker runs, and by exact here"),
    ]
    for other, fault in refused:
        for said in worked(folder, place, [str(folder / "all.csv")], COUNT, other=other):
            assert (said["kind"], said["fault"]) == ("ArtefactError", fault)
    assert not list((tmp_path / "refused").glob("part-*"))
    worker = cluster_outputs.OutputsWorker(SharedModel(str(run.folder), identify(run).digest), "cpu", 8)
    assert not worker(item)["error"]
    with torch.no_grad():
        worker.run.model.exit_heads.classifier_weight.fill_(float("nan"))
    assert json.loads(worker(item)["error"])["place"].startswith("example 41, example 42, ")


@pytest.mark.usefixtures("without_ray")
def test_an_export_goes_to_one_worker_and_is_known_by_its_files(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
    run, data = copytree(run_of(folder), tmp_path / "copy"), tmp_path / "labelled.jsonl"
    made = generate(test=100)["test"]
    data.write_text("".join(json.dumps({"sentence": one.sentence, "label": one.label}) + "\n" for one in made))
    dactcli.export(run, to=tmp_path / "int8", int8=True, rule="exact")
    dactcli.export(run, to=tmp_path / "other", rule="exact")
    wanted = dactcli.evaluate(tmp_path / "int8", data=data).to_json()["rules"]
    assert dactcli.evaluate(tmp_path / "int8", data=data, engine="ray").to_json()["rules"] == wanted
    one, other = (cluster_outputs._digest(open_any(tmp_path / name)) for name in ("int8", "other"))
    assert one != other


def test_batches_have_at_most_so_many_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, run = [one.sentence for one in generate(train=20)["train"]], dactcli.open_run(run_of(folder))
    wanted = dactcli.predict(texts, run=run, rule=RULE)
    sizes: list[int] = []

    def seen(*arguments: Any, **options: Any) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        for positions, batch in by_length(*arguments, **options):
            sizes.append(batch["input_ids"].numel())
            yield positions, batch

    monkeypatch.setattr("dactcli.prediction.predict.by_length", seen)
    found = dactcli.predict(texts, run=run, rule=RULE, batch_tokens=30)
    assert max(sizes) <= 30
    assert len(sizes) > 3
    assert [(one.label, one.exit_layer) for one in found] == [(one.label, one.exit_layer) for one in wanted]


def command(folder: Path, output: Path, *more: str) -> list[str]:
    """The command line of a prediction by two workers."""
    words = [sys.executable, "-m", "dactcli", "predict", str(folder / "one.jsonl"), str(folder / "two.jsonl")]
    words += ["--run", str(run_of(folder)), "--rule", RULE, "--engine", "ray", "--workers", "2"]
    return [*words, "--block-rows", "40", "--output", str(output), *more]


@needs_ray
def test_two_workers_answer_as_one_process_does(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers"
    done = subprocess.run(command(folder, output), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == f"note: 260 predictions in {output} (rule {RULE})"
    assert done.stdout == ""
    same(rows_of(output), local(folder, tmp_path, "one.jsonl", "two.jsonl"))
    note = json.loads((output / NOTE).read_text())
    assert (note["complete"], note["predictions"], note["blocks"]) == (True, 260, 7)
    again = dact(*command(folder, output, "--resume")[3:])
    assert again.exit_code == 0
    assert "is complete" in again.stderr


def workers(parent: int) -> list[int]:
    """The processes of workers below a process."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    below, grew = {parent}, True
    while grew:
        more = {int(pid) for pid, above, _ in rows if int(above) in below} - below
        below, grew = below | more, bool(more)
    return [int(pid) for pid, _, text in rows if int(pid) in below and "AnswersWorker" in text]


@needs_ray
@pytest.mark.slow
def test_workers_that_are_killed_change_nothing(folder: Path, tmp_path: Path) -> None:
    wanted, chance = local(folder, tmp_path, "one.jsonl", "two.jsonl"), random.Random(0)
    for attempt in range(10):
        output, killed = tmp_path / f"answers-{attempt}", 0
        process = subprocess.Popen(command(folder, output), stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 500
        while process.poll() is None and time.monotonic() < deadline:
            if killed < 2 and len(list(output.glob("part-*.jsonl"))) > killed and (found := workers(process.pid)):
                os.kill(chance.choice(found), signal.SIGKILL)
                killed += 1
            time.sleep(0.05 + 0.1 * chance.random())
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert killed
        same(rows_of(output), wanted)
        assert not list(output.glob("*.part*"))


@needs_ray
@pytest.mark.slow
def test_an_interrupted_folder_goes_on(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers"
    process = subprocess.Popen(command(folder, output), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(output.glob("part-*.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "--resume answers the blocks that are missing" in told.replace("the same command with ", "")
    kept = {path: path.stat().st_mtime_ns for path in output.glob("part-*.jsonl")}
    again = subprocess.run(command(folder, output, "--resume"), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    same(rows_of(output), local(folder, tmp_path, "one.jsonl", "two.jsonl"))


@needs_ray
@pytest.mark.slow
def test_two_workers_evaluate_and_calibrate(folder: Path, tmp_path: Path) -> None:
    run, data = copytree(run_of(folder), tmp_path / "copy"), tmp_path / "labelled.jsonl"
    made = generate(test=4100)["test"]
    data.write_text("".join(json.dumps({"sentence": one.sentence, "label": one.label}) + "\n" for one in made))
    words = [
        sys.executable,
        "-m",
        "dactcli",
        "eval",
        str(run),
        "--data",
        str(data),
        "--engine",
        "ray",
        "--workers",
        "2",
    ]
    found = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    (kept,) = (run / "outputs").glob("labelled-*")
    kept.unlink()
    local = dactcli.evaluate(run, data=data).to_json()["rules"]
    rules = json.loads(found.stdout)["rules"]
    assert list(rules) == list(local)
    for name, one in rules.items():
        assert one["layers_mean"] == pytest.approx(local[name]["layers_mean"], abs=1e-3)
        assert one["agreement_with_full"] == pytest.approx(local[name]["agreement_with_full"], abs=1e-3)
    kept.unlink()
    goal = ["--calibrate", "risk=0.5", "--replace", "--json"]
    certified = subprocess.run([*words, *goal], capture_output=True, text=True, timeout=600)
    assert certified.returncode == 0, certified.stderr
    told = json.loads(certified.stdout)
    assert told["certified"]
    assert (told["rule"], told["examples"]) == ("settled:0.5", 4099)  # one is in validation
