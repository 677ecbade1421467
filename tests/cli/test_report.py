"""`dact report` and `dact eval --report`: figures held to scikit-learn's, and a page that is inert and stands alone."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix
from support import Told, dact
from web_page import Page

import dactcli
from dactcli.data.agreement import generate
from dactcli.halting.rules import make_rule
from dactcli.report.run_page import report_page, result_sentence
from dactcli.results import Confusion, ExitTrace, RunReport

Integers = NDArray[np.int64]
RULE = "max_prob:0.55"
EVIL = """<script>alert(1)</script><img src=x onerror="a()">{{ 7 * 7 }}</style>"""


@pytest.fixture
def report(tiny_run: Path) -> RunReport:
    return dactcli.report_run(tiny_run, split="test", rule=RULE, examples=3)


def judged(run: Path) -> tuple[Integers, Integers, Integers]:
    """Labels, answers and exit layers of the test split, as the engine finds them."""
    encoded = dactcli.run_examples(run, "test")
    decision = dactcli.layer_outputs(run, encoded, "test").decide(make_rule(RULE))
    return np.asarray(encoded.labels), decision.answer.argmax(-1).numpy(), decision.exit_layer.numpy()


def test_the_figures_are_those_of_scikit_learn(tiny_run: Path, report: RunReport) -> None:
    labels, answers, exits = judged(tiny_run)
    names = report.model.names
    matrix = report.confusion_matrix or []
    assert matrix == confusion_matrix(labels, answers).tolist()
    wanted = classification_report(labels, answers, target_names=names, output_dict=True, zero_division=np.nan)
    for name, found in report.evaluation.rules[RULE].by_class.items():
        theirs = wanted[name]
        ours = [
            np.nan if value is None else value for value in (found.precision, found.recall, found.f1, found.examples)
        ]
        assert ours == pytest.approx(
            [theirs[key] for key in ("precision", "recall", "f1-score", "support")], nan_ok=True
        )
        assert found.layers_mean == pytest.approx(exits[labels == names.index(name)].mean())
    assert [one.examples for one in report.confusions] == sorted(one.examples for one in report.confusions)[::-1]
    assert sum(one.examples for one in report.confusions) == (labels != answers).sum()
    for one in report.confusions:
        row = matrix[names.index(one.label)]
        assert (one.examples, one.share) == (row[names.index(one.answer)], one.examples / sum(row))


def test_bins_hold_every_example_once(tiny_run: Path, report: RunReport) -> None:
    labels, answers, exits = judged(tiny_run)
    examples = len(labels)
    assert sum(one.examples for one in report.reliability) == examples
    assert sum(one.accuracy * one.examples for one in report.reliability) == pytest.approx((labels == answers).sum())
    assert all(one.low <= one.confidence <= one.high for one in report.reliability)
    error = sum(one.examples * abs(one.confidence - one.accuracy) for one in report.reliability) / examples
    assert report.calibration_error == pytest.approx(error)
    assert sum(one.examples for one in report.by_length) == examples
    assert sum(one.layers_mean * one.examples for one in report.by_length) == pytest.approx(exits.sum())
    spans = [(one.shortest, one.longest) for one in report.by_length]
    assert all(low <= high < following for (low, high), (following, _) in pairwise(spans))


def test_the_curve_is_the_rule_at_every_threshold(tiny_run: Path, report: RunReport) -> None:
    assert report.curve_rule == "max_prob"
    depths = [point.layers_mean for point in report.curve]
    assert depths == sorted(depths)
    for point in report.curve[:: max(len(report.curve) // 3, 1)]:
        (found,) = dactcli.evaluate(tiny_run, split="test", rules=[f"max_prob:{point.threshold}"]).rules.values()
        assert (found.layers_mean, found.metric) == pytest.approx((point.layers_mean, point.metric))


def test_examples_are_the_deepest_and_those_that_differ(tiny_run: Path, report: RunReport) -> None:
    _, _, exits = judged(tiny_run)
    assert [one.exit_layer for one in report.hardest] == sorted(exits.tolist(), reverse=True)[:3]
    assert report.disagreeing
    assert all(one.full_label != one.label for one in report.disagreeing)
    margins = [one.margin for one in report.disagreeing]
    assert margins == sorted(margins, reverse=True)


def test_the_page_stands_alone(report: RunReport) -> None:
    text = report_page(report)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert {"main", "article", "table", "svg", "figure", "details", "h1", "pre"} <= tags
    assert not {"script", "link", "img", "iframe", "image", "style "} & tags
    links = [
        value or "" for _, found in page.elements for name, value in found.items() if name.endswith(("src", "href"))
    ]
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} <= set(ids)
    assert re.findall(r"https?://[^\s\"'<]+", re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)) == []
    for part in (result_sentence(report), "Guarantee", "Halting rules", "Confusions", "Reliability", "Depth by length"):
        assert part in page.text
    assert report.hardest[0].text in page.text
    for colour in ("#010101", "#020202", "#030303", "#040404"):
        assert colour not in text


def test_hostile_texts_and_names_are_inert(report: RunReport) -> None:
    names = [EVIL, f"{EVIL}\x1b[31m\u202e"]
    (trace, *_) = report.hardest
    evil: ExitTrace = replace(trace, text=EVIL, label_name=EVIL, expected_name=EVIL)
    model = replace(report.model, names=names, task=EVIL, encoder=EVIL)
    rules = dict(report.evaluation.rules)
    rules[RULE] = replace(rules[RULE], by_class=dict(zip(names, rules[RULE].by_class.values(), strict=True)))
    evaluation = replace(report.evaluation, run=EVIL, split=EVIL, rules=rules, notices=[EVIL])
    hostile = replace(
        report, model=model, evaluation=evaluation, hardest=[evil], recipe=EVIL, versions={EVIL: EVIL},
        training={"device": EVIL}, confusions=[replace(one, label=EVIL, answer=EVIL) for one in report.confusions],
    )  # fmt: skip
    text = report_page(hostile)
    page = Page(text)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.text.count(EVIL) >= 12
    assert ">49<" not in text
    assert not re.search("[\x1b\u202e]", text)


def test_of_many_classes_only_confusions_are_listed(report: RunReport) -> None:
    names = [f"intent {number}" for number in range(13)]
    many = replace(
        report, model=replace(report.model, names=names), confusion_matrix=[[number] * 13 for number in range(13)],
        confusions=[Confusion("intent 1", "intent 12", 7, 0.7)],
    )  # fmt: skip
    text = Page(report_page(many)).text
    assert "Examples by label (rows) and answer (columns)" not in text
    assert re.search(r"intent 1\s*intent 12\s*7\s*70.0%", text)
    few = replace(many, model=replace(many.model, names=names[:12]), confusion_matrix=[[3] * 12] * 12)
    assert "Examples by label (rows) and answer (columns)" in Page(report_page(few)).text


def test_the_command_writes_the_page_and_the_document(tiny_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "report.html"
    arguments = ("report", tiny_run, "--split", "test", "--rule", RULE, "--examples", "3", "--output", page)
    done = dact(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    found = dactcli.report_run(tiny_run, split="test", rule=RULE, examples=3)
    assert {name: value for name, value in document.items() if name != "format"} == json.loads(
        json.dumps(found.to_json())
    )
    assert page.read_text(encoding="utf-8") == report_page(found)
    again = dact(*arguments)
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
    assert dact("report", tiny_run, "--split", "tset", "--output", tmp_path / "x.html").exit_code == 2
    assert not (tmp_path / "x.html").exists()


def test_paths_of_this_machine_stay_here(tiny_run: Path) -> None:
    assert str(tiny_run.parent) not in report_page(dactcli.report_run(tiny_run))


def test_a_file_without_labels(tiny_run: Path, tmp_path: Path) -> None:
    texts = [one.sentence for one in generate(train=80)["train"][:30]]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts))
    found = dactcli.report_run(tiny_run, data=tmp_path / "new.jsonl", rule=RULE)
    assert (found.confusion_matrix, found.confusions, found.reliability, found.curve) == (None, [], [], [])
    assert all(one.accuracy is None for one in found.by_length)
    text = Page(report_page(found)).text
    assert "Confusions" not in text
    assert "30 new.jsonl examples run" in text
    assert "Without labels, examples count for their class at full depth" in text
    done = dact("eval", tiny_run, "--data", tmp_path / "new.jsonl", "--rule", RULE, "--report")
    assert f"every class of full depth, because there are no labels, under {RULE}" in done.stdout


def test_one_text_and_no_examples(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"sentence": "the key is old .", "label": 1}\n')
    found = dactcli.report_run(tiny_run, data=tmp_path / "one.jsonl", examples=0)
    assert (found.hardest, found.disagreeing) == ([], [])
    assert "Hardest" not in Page(report_page(found)).text


def test_times_come_from_the_runs_own_profile(tiny_run: Path) -> None:
    dact(
        "profile", tiny_run, "--output", tiny_run / "profile.json", "--examples", "4", "--repeats", "2", "--warmup", "0"
    )
    kept: dict[str, Any] = json.loads((tiny_run / "profile.json").read_text())
    found = dactcli.report_run(tiny_run)
    assert [one.stock_ms for one in found.times if not one.pooled] == [
        case["stock"]["latency_ms_p50"] for case in kept["cases"]
    ]
    assert "batches of" in Page(report_page(found)).text
    (tiny_run / "profile.json").write_text('{"cases": 3}')
    told = Told()
    assert dactcli.report_run(tiny_run, listener=told).times == []
    assert any("profile.json" in notice for notice in told.notices)


def test_without_matplotlib(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = dact("report", tiny_run, "--output", tmp_path / "r.html")
    assert done.exit_code == 5
    assert "dactcli[plots]" in done.stderr
    assert not (tmp_path / "r.html").exists()


def test_eval_shows_every_class(tiny_run: Path, report: RunReport) -> None:
    done = dact("eval", tiny_run, "--split", "test", "--rule", RULE, "--report")
    assert done.exit_code == 0, done.stderr
    for name, found in report.evaluation.rules[RULE].by_class.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{name} ")]
        assert line.split()[1:] == [
            *("-" if share is None else f"{share:.2%}" for share in (found.precision, found.recall, found.f1)),
            f"{found.examples:,}", f"{found.layers_mean:.2f}",
        ]  # fmt: skip
    for other in (("--compare",), ("--calibrate", "risk=0.1,delta=0.1")):
        assert dact("eval", tiny_run, "--report", *other).exit_code == 2
