"""The screens, drawn on a pinned console and compared with what was looked at and found good."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from syrupy.assertion import SnapshotAssertion

from dactcli.report.calibration import render_calibration
from dactcli.report.comparison import render_comparison
from dactcli.report.console import bar
from dactcli.report.evaluation import histogram, render_evaluation
from dactcli.report.inspection import reason, render_traces
from dactcli.report.profiling import render_profile
from dactcli.report.sweeps import render_sweep
from dactcli.report.training import PlainScreen, RichScreen, render_training
from dactcli.results import (
    Breakdown,
    Calibration,
    ComparedRule,
    Comparison,
    CurvePoint,
    EvalResult,
    ExitTrace,
    Interval,
    Measurement,
    ProfileCase,
    ProfileResult,
    RuleResult,
    TrainingCase,
    TrainResult,
)

TRACE = ExitTrace(
    text="the key to the cabinets is rusty .",
    text_pair=None,
    tokens=11,
    label=1,
    label_name="acceptable",
    probabilities=[0.03, 0.97],
    rule="exact",
    exit_layer=2,
    layers=4,
    layer_probabilities=[[0.4, 0.6], [0.01, 0.99]],
    halting=[0.6, 0.1],
    remaining=[0.6, 0.06],
    halting_weights=[0.4, 0.6],
    answers=[[0.4, 0.6], [0.03, 0.97]],
    scores=[0.0768, 1.714],
    cut=1.000001,
)
FULL = RuleResult(0.9412, {"accuracy": 0.9412}, 4.0, 1.0, [0, 0, 0, 1000], 1.0)
EXACT = RuleResult(0.9412, {"accuracy": 0.9412}, 2.1, 0.525, [300, 400, 200, 100], 1.0)
EVALUATION = EvalResult(
    "runs/agreement-1", "test", 1000, "accuracy", 4, {"full": FULL, "exact": EXACT}, {"exact": {"0": 1.4, "4": 3.2, "spearman": 0.61}}
)  # fmt: skip


def way(p50: float, layers: float | None = None) -> Measurement:
    depths = [8, 16, 4, 4] if layers else None
    return Measurement(p50, p50 * 1.1, p50 * 1.3, 32000 / p50, 0.02, 1.5e9, 90.0, layers, depths)


def case(**known: Any) -> ProfileCase:
    return ProfileCase(
        32,
        None,
        "exact",
        way(100),
        way(101),
        way(58, 2.125),
        Interval(0.58, 0.57, 0.6),
        Interval(1.01, 1, 1.02),
        ideal_ms=53.1,
        realised_share=Interval(0.916, 0.9, 0.93),
        **known,
    )


PROFILE = ProfileResult(
    {"device": "cpu", "device_name": "Example CPU", "threads": 2, "torch": "2.13.0", "transformers": "5.23.0", "dtype": "float32"},
    [case(breakdown=Breakdown([20, 15, 8, 4], 2, 3, 1, 0.5, 4.5), metric=0.94, metric_name="accuracy", baseline={"time_ratio_to_stock": 0.9, "latency_ms_p50": 0.95})],
    [case()],
    [TrainingCase(32, 64, way(200), way(204), Interval(1.02, 1.01, 1.03), {name: {"forward": 60.0, "backward": 120.0, "optimizer": 20.0} for name in ("plain", "dact")})],
)  # fmt: skip


def drawn(view: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, legacy_windows=False)
    console.print(view)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_inspection(width: int, snapshot: SnapshotAssertion) -> None:
    empty = replace(TRACE, text="", notices=["the text is empty: the answer is what the model says of nothing"])
    judged = replace(
        TRACE, rule="confidence:0.9", cut=0.9, scores=[0.6, 0.97], promise="a promise", expected=0,
        expected_name="unacceptable", full_answer=[0.8, 0.2], answers=[[0.6, 0.4], [0.03, 0.97]],
    )  # fmt: skip
    names = ["unacceptable", "acceptable"]
    assert drawn(render_traces([TRACE, empty], names, every=[TRACE, empty, judged]), width) == snapshot
    assert drawn(render_traces([judged], names), width) == snapshot


@pytest.mark.parametrize("width", [60, 80, 120])
def test_evaluation(width: int, snapshot: SnapshotAssertion) -> None:
    assert drawn(render_evaluation(EVALUATION), width) == snapshot


@pytest.mark.parametrize("width", [80, 120])
def test_profile(width: int, snapshot: SnapshotAssertion) -> None:
    assert drawn(render_profile(PROFILE), width) == snapshot


@pytest.mark.parametrize("width", [80, 120])
def test_comparison(width: int, snapshot: SnapshotAssertion) -> None:
    points = [CurvePoint("runs/a-1", 0.5, 1.2, 0.85), CurvePoint("runs/a-1", 0.9, 2.5, 0.93)]
    rule = ComparedRule(
        Interval(0.962, 0.951, 0.973), {"0.25": 0.81, "0.5": 0.9, "0.75": 0.93}, 2.2, 0.8, points, [0.9]
    )
    never = replace(rule, layers_for_99=None, points=points[:1])
    comparison = Comparison(
        "test",
        1000,
        "accuracy",
        4,
        ["runs/a-1"],
        "full depth",
        ["runs/a-1"],
        0.94,
        {"confidence": rule, "answer_entropy": never},
    )
    assert drawn(render_comparison(comparison), width) == snapshot


def test_calibration_and_sweep(snapshot: SnapshotAssertion) -> None:
    facts = {
        "weights_sha256": "w",
        "dtype": "float32",
        "max_length": 48,
        "split": "calibration",
        "data_fingerprint": "d",
    }
    found = Calibration(
        "risk",
        "confidence:0.93",
        0.93,
        True,
        ["confidence"],
        1000,
        2.4,
        **facts,
        loss="harm",
        epsilon=0.01,
        delta=0.05,
        observed=4,
    )
    assert drawn(render_calibration(found, 6), 80) == snapshot
    rules = {"full": {"metric": 0.9, "layers_mean": 6.0}, "exact": {"metric": 0.9, "layers_mean": 3.2}}
    runs = [
        {"run": f"runs/a-sweep/a-tau-{tau}-1", "values": {"dact.tau": tau}, "rules": rules} for tau in ("0.1", "0.2")
    ]
    document = {"rule": "exact", "runs": runs, "front": [runs[0]["run"]]}
    assert drawn(render_sweep(document), 80) == snapshot


def test_training(snapshot: SnapshotAssertion) -> None:
    result = TrainResult("runs/agreement-1", 2345, 183.4, {"validation": EVALUATION})
    assert drawn(render_training(result), 80) == snapshot


def test_plain_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    screen = PlainScreen(console)
    with screen:
        screen.stage_started("joint", 1, 2, 40)
        screen.stepped(0)
        screen.stepped(20)
        screen.logged({"loss": 0.25, "layers_mean": 2.5})
        screen.evaluated(EVALUATION)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "stage 1/2 joint: 40 steps"
    assert lines[1].startswith("stage 1/2 joint step 20/40 loss 0.2500 layers 2.50 left 0:0")
    assert lines[2] == "test accuracy: full 0.9412 at 4.00 layers, exact 0.9412 at 2.10 layers"


def test_a_live_bar_shows_loss_layers_and_metric() -> None:
    console = Console(file=io.StringIO(), width=110, force_terminal=True, color_system=None)
    with RichScreen(console) as screen:
        screen.stage_started("joint", 1, 1, 40)
        screen.stepped(20)
        screen.logged({"loss": 0.25, "layers_mean": 2.5})
        screen.evaluated(EVALUATION)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("1/1 joint", "20/40", "loss 0.250", "layers 2.50", "accuracy 0.941"):
        assert part in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "exact: stopped after layer 2; certain: the class cannot change any more, whatever the other 2 layers answer (1.7140 >= 1.0000)"),
        ({"rule": "full", "exit_layer": 4}, "full: all 4 layers run"),
        ({"exit_layer": 4}, "exact: ran to the last layer, because no earlier one was enough"),
        ({"rule": "confidence:0.9", "cut": 0.9, "scores": [0.6, 0.97]}, "confidence:0.9: stopped after layer 2 (0.9700 >= 0.9000)"),
        ({"rule": "tolerance:0.05", "scores": [-1.0, -0.04]}, "tolerance:0.05: stopped after layer 2; the value can change by at most 0.0400"),
    ],
)  # fmt: skip
def test_the_reason_for_stopping(change: dict[str, object], sentence: str) -> None:
    assert reason(replace(TRACE, **change)) == sentence  # type: ignore[arg-type]


def test_bars_and_histograms() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.5, 2) == "██"
    assert bar(0.0, 3) == "   "
    assert bar(1 / 16, 2) == "▏ "
    assert histogram([0, 1, 8]) == "·▂█"
