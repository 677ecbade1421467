"""The screens, drawn on a pinned console and compared with what was looked at and found good."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from syrupy.assertion import SnapshotAssertion
from web_page import Page

from dactcli.errors import DactError
from dactcli.recipe.schema import SPLITS
from dactcli.report import console
from dactcli.report.blocks import GUIDE, bar, histogram, short_rule, sparkline
from dactcli.report.calibration import render_calibration
from dactcli.report.comparison import render_comparison
from dactcli.report.console import Screen, show
from dactcli.report.evaluation import render_evaluation
from dactcli.report.exports import render_export
from dactcli.report.inspection import render_traces
from dactcli.report.listings import render_plan, render_publication, render_recipes, render_runs
from dactcli.report.page import trace_page
from dactcli.report.profiling import render_profile
from dactcli.report.sweeps import render_sweep
from dactcli.report.training import PlainScreen, RichScreen, TrainingView, kept_line, render_training, screen
from dactcli.report.wording import meanings, reason
from dactcli.results import (
    Breakdown,
    Calibration,
    ChangedAnswers,
    ClassResult,
    ComparedRule,
    Comparison,
    CurvePoint,
    EvalResult,
    ExitTrace,
    ExportResult,
    Interval,
    KeptEpoch,
    Measurement,
    PlanResult,
    ProfileCase,
    ProfileResult,
    PublishResult,
    Reference,
    RuleResult,
    RunFacts,
    SplitFacts,
    StepLog,
    TrainingCase,
    TrainResult,
)

EXPORTED = ExportResult(
    run="runs/sst2-1",
    folder="sst2-int8",
    precision="int8",
    float_layers=[1],
    layers=6,
    model_layers=6,
    stages=[2, 4, 6],
    rule="confidence:0.957612345",
    promise="with probability at least 0.95 a fresh example is answered differently with probability at most 0.02",
    failure=None,
    changed=ChangedAnswers("calibration", 692, 3),
    fused=6,
    bytes=31_016_170,
    model_bytes=98_202_399,
    files=["dact.json", "stage-1.onnx", "stage-2.onnx", "stage-3.onnx", "tokenizer.json"],
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
    cut=1.0,
)
LOG = StepLog(0.25, 5e-5, 1.2, 0.5, 80.0, 2.5, [0.1, 0.2, 0.6, 0.1])
FULL = RuleResult(0.9412, {"accuracy": 0.9412}, 4.0, 1.0, [0, 0, 0, 1000], 1.0)
BY_CLASS = {
    "unacceptable": ClassResult(298, 0.88, 0.9, 0.0201, 0.0268, 2.6),
    "acceptable": ClassResult(702, 0.967, 0.9587, 0.0, 0.0085, 1.89),
}
EXACT = RuleResult(0.9412, {"accuracy": 0.9412}, 2.1, 0.525, [300, 400, 200, 100], 1.0, by_class=BY_CLASS)
BESIDE = {
    "majority": Reference(0.702, {"accuracy": 0.702}, 0.71, "acceptable"),
    "last_layer": Reference(0.9398, {"accuracy": 0.9398}, 0.981),
}
COLLAPSED = (
    "full depth is practically layer 1 alone: that layer has 99.4% of the halting weight and the same answer on 99.42% "
    "of the examples, so agreement with full depth says nothing about the layers above it"
)
EVALUATION = EvalResult(
    "runs/agreement-1", "test", 1000, "accuracy", 4, {"full": FULL, "exact": EXACT},
    {"exact": {"0": 1.4, "4": 3.2, "spearman": 0.61}}, BESIDE, notices=[COLLAPSED],
)  # fmt: skip
REPORTED = replace(EVALUATION, rules={"full": FULL, "exact": replace(EXACT, by_class={
    "unacceptable": replace(BY_CLASS["unacceptable"], precision=0.9188, f1=0.899),
    "acceptable, in the ears of most speakers": replace(BY_CLASS["acceptable"], precision=None, f1=0.0),
})})  # fmt: skip
# 77 classes, 24 layers, no labels, and names that are longer than there is room for
MANY = EvalResult(
    "runs/intents-1", "requests.csv", 3080, "matthews_correlation", 24,
    {"confidence:0.9321": RuleResult(
        None, {}, 7.2, 0.3, [2000, *[0] * 22, 1080], 0.99,
        by_class={f"intent {n}: a customer asks" : ClassResult(40, None, None, None, n / 1000, 7.2) for n in range(77)},
    )},
    references={"last_layer": Reference(None, {}, 0.93)}, by_class_of="full_depth",
)  # fmt: skip
VALUES = EvalResult(
    "runs/sts-1", "test", 1000, "pearson", 4,
    {"tolerance:0.05": RuleResult(0.81, {"pearson": 0.81}, 2.1, 0.525, [300, 400, 200, 100], 1.0)},
    references={
        "mean": Reference(None, {"pearson": None, "mean_squared_error": 2.1}, 0.02, 2.5134),
        "last_layer": Reference(0.8, {"pearson": 0.8}, 0.4),
    },
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


EMPTY = replace(TRACE, text="", notices=["the text is empty"])
JUDGED = replace(
    TRACE, rule="confidence:0.9", cut=0.9, scores=[0.6, 0.97], promise="a promise", expected=0,
    expected_name="unacceptable", full_answer=[0.8, 0.2], answers=[[0.6, 0.4], [0.03, 0.97]],
)  # fmt: skip
OWN = replace(
    TRACE, rule="entropy:0.3123456789", cut=-0.3123456789, scores=[-0.971, -0.81, -0.62, -0.2], exit_layer=4,
    halting_weights=[0.0, 0.0, 0.0, 1.0], answers=[[0.4, 0.6], [0.25, 0.75], [0.15, 0.85], [0.03, 0.97]],
    remaining=[1.0] * 4, halting=[1.0] * 4, layer_probabilities=[[0.4, 0.6]] * 4, answered_by="layer", layers=6,
)  # fmt: skip
VALUE = replace(
    TRACE, label=3.21, label_name=None, probabilities=[], rule="tolerance:0.05", cut=-0.05, scores=[-1.3, -0.04],
    layer_probabilities=[[2.9], [3.3]], answers=[[2.9], [3.21]], expected=3.4,
)  # fmt: skip
NAMES = ["unacceptable", "acceptable"]


def comparison() -> RenderableType:
    points = [CurvePoint("runs/a-1", 0.5, 1.2, 0.85), CurvePoint("runs/a-1", 0.9, 2.5, 0.93)]
    at: dict[str, float | None] = {"0.25": 0.81, "0.5": 0.9, "0.75": 0.93}
    rule = ComparedRule(Interval(0.962, 0.951, 0.973), 1.0, at, 2.2, points)
    deep = ComparedRule(
        None, 2.5, {"0.25": None, "0.5": None, "0.75": 0.94}, 2.5, [CurvePoint("runs/a-1", None, 2.5, 0.94)]
    )
    rules = {"confidence": rule, "answer_entropy": replace(rule, layers_for_99=None, points=points[:1]), "exact": deep}
    beside: dict[str, Any] = {
        "majority_metric": 0.702,
        "last_layer_metric": 0.9398,
        "notices": ["these figures are measurements"],
    }
    reference = ("full depth", ["runs/a-1"], 0.94)
    return render_comparison(Comparison("test", 1000, "accuracy", 4, ["runs/a-1"], *reference, rules, **beside))


def calibration() -> RenderableType:
    digests = ("weights_sha256", "config_sha256", "tokenizer_sha256", "data_fingerprint")
    bound: dict[str, Any] = {
        **dict.fromkeys(digests, "0123456789abcdef"),
        "dtype": "float32",
        "max_length": 48,
        "split": "fresh.csv",
    }
    chosen: dict[str, Any] = {
        "kind": "risk", "rule": "confidence:0.93", "threshold": 0.93, "certified": True,
        "rules_tried": ["confidence", "slack"], "examples": 1000, "layers_mean": 2.4,
    }  # fmt: skip
    promise: dict[str, Any] = {
        "loss": "harm",
        "epsilon": 0.01,
        "delta": 0.05,
        "delta_spent": 0.0125,
        "attempt": 2,
        "observed": 4,
    }
    sample: dict[str, Any] = {"distinct": 990, "screened": ["train", "validation"], "left_out": {"train": 12}}
    classes = {
        "negative": ClassResult(400, 0.9, 0.91, 0.01, 0.01, 2.6),
        "[red]positive": ClassResult(600, 0.97, 0.97, 0.0, 0.0017, 2.27),
    }
    return render_calibration(Calibration(**chosen, **bound, **promise, **sample, classes=classes, layers=6))


def certified(**changes: Any) -> RenderableType:
    """The end of a training with a calibration."""
    digests = ("weights_sha256", "config_sha256", "tokenizer_sha256", "data_fingerprint")
    bound: dict[str, Any] = {
        **dict.fromkeys(digests, "0123456789abcdef"),
        "dtype": "float32",
        "max_length": 48,
        "split": "calibration",
    }
    chosen: tuple[Any, ...] = (
        "risk",
        "confidence:0.8072509765625",
        0.8072509765625,
        True,
        ["confidence"],
        1500,
        2.2413,
    )
    promise: dict[str, Any] = {
        "loss": "disagreement",
        "epsilon": 0.01,
        "delta": 0.05,
        "delta_spent": 0.025,
        "attempt": 1,
    }
    known: Any = {**bound, **promise, "distinct": 1500, "layers": 6}
    found = replace(Calibration(*chosen, **known), **changes)
    return render_training(
        TrainResult(
            "runs/agreement-1", 2345, 183.4, {"validation": EVALUATION}, calibration=found, splits=tuple(SPLITS)
        )
    )


def sweep() -> RenderableType:
    rules = {"full": {"metric": 0.9, "layers_mean": 6.0}, "exact": {"metric": 0.9, "layers_mean": 3.2}}
    runs = [
        {"run": f"runs/a-sweep/a-tau-{tau}-1", "values": {"dact.tau": tau}, "rules": rules, "references": beside}
        for tau, beside in (("0.1", {"majority": {"metric": 0.702}}), ("0.2", {}))
    ]
    return render_sweep({"rule": "exact", "runs": runs, "front": [runs[0]["run"]]})


def seeds(*taus: str) -> RenderableType:
    """A sweep over three seeds, of one or of several values of tau."""
    figures = {"metric": 0.9, "layers_mean": 3.2, "agreement_with_full": 1.0}
    runs = [
        {
            "run": f"runs/a-sweep/a-{tau or 'seed'}-{seed}-1",
            "values": {**({"dact.tau": tau} if tau else {}), "training.seed": str(seed)},
            "rules": {"exact": figures},
        }
        for tau in taus
        for seed in range(3)
    ]
    spread = {
        "metric": {"mean": 0.9, "sd": 0.0041},
        "layers_mean": {"mean": 3.2, "sd": 0.25},
        "agreement_with_full": {"mean": 1.0, "sd": 0.0},
    }
    undefined = {**spread, "metric": {"mean": None, "sd": None}}
    summaries = [
        {
            "values": {"dact.tau": tau} if tau else {},
            "seeds": ["0", "1", "2"],
            "rules": {"exact": spread if number == 0 else undefined},
            "on_front": number == 0,
        }
        for number, tau in enumerate(taus)
    ]
    return render_sweep({"rule": "exact", "runs": runs, "front": [runs[0]["run"]], "over_seeds": summaries})


def course() -> RenderableType:
    made = TrainingView()
    made.logs = [replace(LOG, loss=1 / step, layers_mean=4 - step / 10) for step in range(1, 31)]
    made.evaluations = [EVALUATION]
    return made


def plain_course() -> RenderableType:
    made = TrainingView()
    made.logs = [replace(LOG, layers_mean=None, halting_weights=None)]
    return made


def recipe_list() -> RenderableType:
    @dataclass
    class Recipe:
        name: str
        about: str

    return render_recipes([Recipe("sst2", "SST-2: is a sentence of a film review positive?"), Recipe("own-data", "Your own texts.")])  # fmt: skip


def run_list() -> RenderableType:
    noon = datetime(2026, 11, 24, 12, 0).timestamp()
    done = RunFacts("runs/sst2-1", "sst2", True, True, "accuracy", 0.8741, "exact", 2.94, 6, noon, 98.4, 0.5058)
    return render_runs([done, RunFacts("runs/cola-1", "cola", False, False, None, None, None, None, None, noon, 0.1)])


def plan() -> RenderableType:
    splits = {
        "train": SplitFacts(6228, 24, 48, 71, 0, {"negative": 0.48, "positive": 0.52}, 0.52, counts=COUNTS),
        "test": SplitFacts(1821, 23, 47, 64, 3, {}),
    }
    return render_plan(
        PlanResult(
            splits,
            "bert 384",
            6,
            26_300_000,
            1_300_000,
            ["stage 1/1 joint: 585 steps"],
            585,
            0.31,
            181.0,
            1400,
            610,
            "cpu",
            [],
        )
    )


COUNTS = {"negative": 2989, "positive": 3239}

# every view, as the commands draw it
VIEWS: dict[str, Callable[[], RenderableType]] = {
    "export": lambda: render_export(EXPORTED),
    "export without certificate": lambda: render_export(
        replace(
            EXPORTED,
            stages=[6],
            promise="the class is that of this export's own full depth",
            failure="int8 alone changes 23 of 692 answers of the PyTorch model (3.3%), which is more than the risk of 1%",
            changed=ChangedAnswers("calibration", 692, 23),
        )
    ),
    "publication": lambda: render_publication(
        PublishResult("runs/a-1", "out", "https://hub.example/jane/a", "confidence:0.9", "a promise", ["README.md"])
    ),
    "inspect, several": lambda: render_traces([TRACE, EMPTY], NAMES, every=[TRACE, EMPTY, JUDGED]),
    "inspect, calibrated": lambda: render_traces([JUDGED], NAMES),
    "inspect, the layer's own answer": lambda: render_traces([OWN], NAMES),
    "inspect, full depth": lambda: render_traces(
        [replace(OWN, rule="full", layers=4, scores=[None] * 4, cut=0.0)], NAMES
    ),
    "inspect, regression": lambda: render_traces([VALUE], []),
    "eval": lambda: render_evaluation(EVALUATION),
    "eval, many classes": lambda: render_evaluation(MANY),
    "eval --report": lambda: render_evaluation(REPORTED, report=True),
    "eval, regression": lambda: render_evaluation(VALUES),
    "profile": lambda: render_profile(PROFILE),
    "compare": comparison,
    "calibrate": calibration,
    "sweep": sweep,
    "sweep, seeds": lambda: seeds(""),
    "sweep, seeds of several values": lambda: seeds("0.1", "0.2"),
    "finetune, running": course,
    "finetune, plain": plain_course,
    "finetune, finished": lambda: render_training(
        TrainResult(
            "runs/agreement-1",
            2345,
            183.4,
            {"validation": EVALUATION},
            halting_fitted=True,
            splits=tuple(SPLITS),
            parameters=26_300_000,
            trainable_parameters=1_300_000,
        )
    ),
    "finetune, certified": certified,
    "finetune, certain": lambda: certified(
        rule="exact",
        threshold=None,
        certified=False,
        layers_mean=3.05,
        outdone="confidence:0.8072509765625",
        outdone_layers_mean=3.264,
    ),
    "finetune, not certified": lambda: certified(
        rule="exact", threshold=None, certified=False, layers_mean=None, examples=300, distinct=298
    ),
    "recipes": recipe_list,
    "runs": run_list,
    "validate": plan,
}


RENDERERS = [name for name in globals() if name.startswith("render_")]


def drawn(view: RenderableType, width: int, style: str) -> str:
    """As console.show() writes it, on a UTF-8 terminal or, in ASCII, on one in the C locale."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii" if style == "ascii" else "utf-8", errors="dact-plain")
    colours: Any = "standard" if style == "colour" else None
    made = Screen(
        file=file, width=width, color_system=colours, force_terminal=style != "pipe", no_color=False,
        legacy_windows=False, _environ={"TERM": "xterm"},
    )  # fmt: skip
    show(view, made)
    file.flush()
    return "\n".join(line.rstrip() for line in raw.getvalue().decode().splitlines())


@pytest.mark.parametrize("style", ["plain", "colour", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, width: int, style: str, snapshot: SnapshotAssertion) -> None:
    text = drawn(VIEWS[name](), width, style)
    assert text == snapshot
    if style != "colour":
        assert max(map(len, text.splitlines())) <= width


HOSTILE = "\x1b[31m\r\x07\x0b\x9b1m\u202e\u2066[red]x[/red]:smile:\n\x85\ud800"
SHOWN = r"\x1b[31m\r\x07\x0b\x9b1m\u202e\u2066[red]x[/red]:smile:\n\x85\ud800"
STRUCTURE = {
    "rule",
    "kind",
    "device",
    "family",
    "full_depth",
    "by_class_of",
}  # what code compares, and no data can name


def poisoned(value: Any) -> Any:
    """Every text in a result, made hostile."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        return {key: part if key in STRUCTURE else poisoned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value) if f.name not in STRUCTURE}
        )
    return value


@pytest.mark.parametrize("width", [20, 5000])
@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("finetune, running", "finetune, plain")])
def test_hostile_texts_are_shown_in_every_view_and_obeyed_in_none(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for render in RENDERERS:
        original = globals()[render]
        monkeypatch.setitem(
            globals(), render, lambda *a, original=original, **k: original(*map(poisoned, a), **poisoned(k))
        )
    file = io.StringIO()
    made = Screen(file=file, width=width, color_system=None, force_terminal=True, _environ={"TERM": "xterm"})
    show(VIEWS[name](), made)
    text = file.getvalue()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\ud800]", text)
    assert "\U0001f604" not in text
    if width > 20:
        assert SHOWN in text


def test_labels_that_are_hostile_stand_in_a_plan_as_they_are() -> None:
    hostile = PlanResult(
        {"train": SplitFacts(2, 1, 1, 1, 0, {HOSTILE: 0.5, "pos ": 0.5}, counts={HOSTILE: 1, "pos ": 1})},
        *("b", 1, 1, 1, [], 1, 1, 1, 1, 1, "cpu", []),
    )
    assert f"{SHOWN} 1 (50%), pos  1 (50%)" in drawn(render_plan(hostile), 500, "plain")


def test_screens_and_bars_obey_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices, stages and descriptions, on a terminal and on none."""
    for terminal in (True, False):
        file = io.StringIO()
        made = Screen(file=file, width=400, force_terminal=terminal, color_system=None, _environ={"TERM": "xterm"})
        monkeypatch.setattr(console, "messages", lambda made=made: made)
        with RichScreen(made) if terminal else PlainScreen(made) as shown:
            shown.notice(HOSTILE)
            shown.stage_started(HOSTILE, 1, 1, 4)
            shown.evaluated(poisoned(EVALUATION))
            with shown.working(HOSTILE) as work:
                work(1, 2)
        console.print_notice(HOSTILE)
        console.print_error(DactError(HOSTILE, place=HOSTILE, remedy=HOSTILE))
        with console.counting(HOSTILE) as count:
            count(1, 2)
        with console.flowing(HOSTILE, 0) as flow:
            flow(1, 1, 2)
        text = re.sub(r"\x1b\[(\?25[lh]|\d*[AK]|2K)|\r", "", file.getvalue())  # how bars move the cursor
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\ud800]", text), ascii(text)
        assert text.count(SHOWN) >= 5
        assert "\U0001f604" not in text


@pytest.mark.parametrize("width", [1, 20, 40, 60])
def test_a_narrow_terminal_cuts_names_and_no_figures(width: int) -> None:
    runs = [
        RunFacts("runs/" + "long-name-" * 12, "a-task", True, False, "accuracy", 0.8741, "exact", 2.94, 6, 0.0, 1298.4)
    ]
    for view, figures in (
        (render_runs(runs), ["0.8741", "2.94", "1,298.4"]),
        (VIEWS["eval"](), ["0.9412", "2.10", "52%", "100.00%"]),
        (VIEWS["finetune, finished"](), ["0.9412", "2.10", "52%", "100.00%"]),
        (VIEWS["validate"](), ["6,228", "24", "48", "71", "52%"]),
        (VIEWS["profile"](), ["(0.57-0.60)", "0.000", "1,234"][:1]),
        (VIEWS["compare"](), ["0.9620", "0.8100", "0.0110"]),
        (VIEWS["sweep"](), ["0.9000", "3.20"]),
        (VIEWS["inspect, several"](), ["0.400", "0.060", "97.0%"]),
    ):
        text = drawn(view, width, "plain")
        assert [figure for figure in figures if figure not in text] == []
        assert "…" not in text


def test_a_pipe_folds_no_name() -> None:
    name = "runs/" + "long-name-" * 30
    runs = [RunFacts(name, "t", True, False, "accuracy", 0.8741, "exact", 2.94, 6, 0.0, 98.4)]
    assert f"\n{name} t " in drawn(render_runs(runs), 40, "pipe")


@pytest.mark.parametrize(
    ("rule", "short"),
    [
        ("exact", "exact"),
        ("confidence:0.9123456789012345", "confidence:0.9123"),
        ("confidence:0.99996789012345", "confidence:0.99997"),
        ("confidence:1.0", "confidence:1"),
        ("entropy:1.23456789e-09", "entropy:1.235e-09"),
        ("patience:3", "patience:3"),
        ("layer:12", "layer:12"),
        ("tolerance:0.05", "tolerance:0.05"),
        ("max_prob:0.9999999999999999", "max_prob:0.9999999999999999"),
    ],
)
def test_a_threshold_has_four_digits_in_a_view(rule: str, short: str) -> None:
    assert short_rule(rule) == short
    evaluation = replace(EVALUATION, rules={"full": FULL, rule: EXACT}, depth_by_difficulty={})
    assert f"\n{short} " in drawn(render_evaluation(evaluation), 120, "plain")


def test_no_view_is_left_out() -> None:
    """What report/ offers to draw is drawn here."""
    source = Path(__file__).read_text(encoding="utf-8")
    folder = Path(import_module("dactcli.report").__path__[0])
    offered = {
        name for file in folder.glob("*.py") for name in re.findall(r"^def (render_\w+)", file.read_text(), re.M)
    }
    assert offered
    assert {name for name in offered if f"{name}(" not in source} == set()


def test_plain_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    with PlainScreen(console) as plain:
        plain.stage_started("joint", 1, 2, 40)
        plain.stepped(0)
        plain.stepped(20)
        plain.logged(LOG)
        plain.evaluated(EVALUATION)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "stage 1/2 joint: 40 steps"
    assert lines[1].startswith("stage 1/2 joint step 20/40 loss 0.2500 layers 2.50 left 0:0")
    assert " ".join(lines[2:]) == (
        "test accuracy: full 0.9412 at 4.00 layers, exact 0.9412 at 2.10 layers (majority class 0.7020, last layer 0.9398)"
    )


def test_a_live_bar_shows_loss_layers_and_metric() -> None:
    console = Console(file=io.StringIO(), width=110, force_terminal=True, color_system=None)
    with RichScreen(console) as live:
        live.stage_started("joint", 1, 1, 40)
        live.stepped(20)
        live.logged(LOG)
        live.evaluated(EVALUATION)
        with live.working("calibration: 1,500 examples") as progress:  # a bar of the same view
            progress(750, 1500)
            live.live.refresh()
        assert [task.description for task in live.progress.tasks] == ["1/1 joint"]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "1/1 joint",
        "20/40",
        "0.250",
        "2.50",
        "accuracy",
        "0.941",
        "majority class: 0.702",
        "▂▃█▂",
        "750/1500",
    ):
        assert part in text


def test_all_that_is_known_of_a_step() -> None:
    console = Console(file=io.StringIO(), width=80)
    with PlainScreen(console, verbose=True) as plain:
        plain.stage_started("joint", 1, 2, 40)
        plain.stepped(0)
        plain.logged(LOG)
    line = console.file.getvalue().splitlines()[1]  # type: ignore[attr-defined]
    assert line == (
        "stage 1/2 joint step 0/40 loss 0.2500 layers 2.50 rate 5.00e-05 gradient 1.20 epoch 0.50 80 examples/s "
        "weights 0.10 0.20 0.60 0.10"
    )


def test_quiet_screens_say_what_one_should_know(capsys: pytest.CaptureFixture[str]) -> None:
    with screen("quiet") as shown:
        shown.stage_started("joint", 1, 1, 40)
        shown.logged(LOG)
        shown.evaluated(EVALUATION)
        shown.notice("texts were cut")
    assert capsys.readouterr().err == "note: texts were cut\n"


def test_sparklines_show_how_a_number_moved() -> None:
    assert sparkline([3, 2, 1], 8) == "█▅▁"
    assert sparkline([5.0, 5.0], 8) == "▄▄"
    assert sparkline([], 8) == ""
    assert sparkline([0, 0, 1, 1, 2, 2, 3, 3], 4) == "▁▃▆█"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "exact stopped after layer 2: certain, the class cannot change any more, whatever the other 2 layers answer (safety 1.714 reached 1)"),
        ({"rule": "full", "exit_layer": 4}, "full runs all 4 layers"),
        ({"exit_layer": 4}, "exact ran to the last layer, because no earlier one was enough"),
        ({"rule": "confidence:0.9", "cut": 0.9, "scores": [0.6, 0.97]}, "confidence:0.9 stopped after layer 2: confidence 0.97 reached 0.9"),
        ({"rule": "entropy:0.3", "cut": -0.3, "scores": [-0.6, -0.21]}, "entropy:0.3 stopped after layer 2: entropy 0.21 reached 0.3 or less"),
        ({"rule": "layer:2", "cut": 2.0, "scores": [1.0, 2.0]}, "layer:2 stopped after layer 2"),
        ({"rule": "confidence:0.912345", "cut": 0.912345, "scores": [0.6, 0.97], "promise": "confidence:0.912345 runs 2.1 layers."}, "confidence:0.9123 stopped after layer 2: confidence 0.97 reached 0.9123; calibrated: confidence:0.9123 runs 2.1 layers."),
        ({"rule": "slack:0", "scores": [0.6, 1.2]}, "slack:0 stopped after layer 2: certain, the class cannot change any more, whatever the other 2 layers answer (safety 1.2 reached 1)"),
        ({"rule": "slack:0.5", "scores": [0.6, 1.2]}, "slack:0.5 stopped after layer 2: safety 1.2 reached 1"),
        ({"rule": "tolerance:0.05", "cut": -0.05, "scores": [-1.0, -0.04]}, "tolerance:0.05 stopped after layer 2: the value can change by at most 0.04"),
    ],
)  # fmt: skip
def test_the_reason_for_stopping(change: dict[str, object], sentence: str) -> None:
    assert reason(replace(TRACE, **change)) == sentence  # type: ignore[arg-type]


def test_no_example_is_both_the_hardest_and_the_easiest() -> None:
    close = replace(TRACE, text="close", probabilities=[0.49, 0.51])
    alike = drawn(render_traces([TRACE, close], NAMES), 120, "plain")
    assert "closest call  2 layers, acceptable 51.0%: close" in alike
    assert "hardest" not in alike
    assert "easiest" not in alike
    shallow = replace(TRACE, text="shallow", exit_layer=1)
    unlike = drawn(render_traces([TRACE, shallow], NAMES), 120, "plain")
    assert "hardest  2 layers, acceptable 97.0%: the key" in unlike
    assert "easiest  1 layer, acceptable 97.0%: shallow" in unlike


def test_weights_stand_only_where_the_rule_works_on_them() -> None:
    weighted = drawn(render_traces([TRACE], NAMES), 120, "plain")
    assert re.search(r"layer +weight +left +this layer +answer so far", weighted)
    own = drawn(render_traces([OWN], NAMES), 120, "plain")
    assert "weight" not in own
    assert "left" not in own
    assert "1.000" not in own
    assert "stops at 0.3123 or less" in own
    assert re.search(r"4 stop +acceptable 97.0% +0\.2 ", own)
    mixed = drawn(render_traces([JUDGED], NAMES), 120, "plain")
    assert "weight:" not in mixed
    assert "left: share" in mixed


def test_a_long_label_is_whole_where_it_fits() -> None:
    long = "balance_not_updated_after_bank_transfer"
    trace = replace(TRACE, label_name=long, label=1)
    text = drawn(render_traces([trace], ["other", long]), 80, "plain")
    assert f"{long} 60.0%" in text
    assert f"{long} 97.0%" in text
    assert "this layer:" not in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_list_of_runs_breaks_no_column_into_letters(width: int) -> None:
    name = "runs/banking77-minilm-l12-tau-0.003-sweep-7"
    facts = RunFacts(
        name, "banking77", True, True, "accuracy", 0.8741, "confidence:0.912345678", 2.24, 6, 0.0, 98.4, 0.02
    )
    text = drawn(render_runs([facts]), width, "plain")
    assert f"{name} *\n" in text
    words = " ".join(text.split())
    assert "banking77, accuracy 0.8741 (majority class 0.0200), 2.24 of 6 layers, rule confidence:0.9123, " in words


def test_every_section_that_a_view_names_exists() -> None:
    root = Path(__file__).parents[2]
    page = (root / GUIDE).read_text(encoding="utf-8")
    sections = {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", line[3:]).strip())
        for line in page.splitlines()
        if line[:3] == "## "
    }
    source = "".join(file.read_text(encoding="utf-8") for file in (root / "dactcli" / "report").glob("*.py"))
    named = set(re.findall(r'guide\("([\w-]+)"\)|GUIDE\}#([\w-]+)', source))
    assert {one or other for one, other in named} == sections


@pytest.mark.parametrize("trace", [TRACE, JUDGED, OWN, VALUE], ids=lambda one: one.rule)
def test_a_web_page_holds_what_the_view_shows(trace: ExitTrace) -> None:
    page = Page(trace_page([trace], NAMES if trace.probabilities else [], every=[trace, trace]))
    tags = [tag for tag, _ in page.elements]
    assert {"main", "article", "table", "thead", "tbody", "h1", "dl"} <= set(tags)
    assert not {"script", "link", "img", "iframe", "pre"} & set(tags)
    assert not [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    rows = [attributes.get("class") for tag, attributes in page.elements if tag == "tr"]
    assert rows.count("stop") == 1
    assert rows.count("unrun") == trace.layers - trace.exit_layer
    for part in (trace.text, reason(trace), "2 examples", *meanings(trace)):
        assert part in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert ("weight" in meanings(trace)) == any(
        "value" in found for tag, found in page.elements if tag == "meter" and "max" not in found
    )


def test_a_hostile_text_or_label_is_inert_in_a_web_page() -> None:
    evil = """<script>alert(1)</script><img src=x onerror="a()">{{ 7 * 7 }}{% raw %}&amp;'</style>"""
    names = [evil, f"{evil}\x1b[31m\u202e"]
    trace = replace(
        TRACE, text=evil + HOSTILE, text_pair=evil, label_name=names[1], notices=[evil], promise=evil, expected=0,
        expected_name=evil, full_answer=[0.9, 0.1], rule="confidence:0.9", cut=0.9,
    )  # fmt: skip
    page = Page(trace_page([trace], names, every=[trace, trace]))
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.text.count(evil) >= 8
    assert "49" not in page.text
    assert SHOWN in page.text
    assert not re.search("[\x1b\u202e]", page.text)


def test_bars_and_histograms() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.5, 2) == "██"
    assert bar(0.0, 3) == "   "
    assert bar(1 / 16, 2) == "▏ "
    assert histogram([0, 1, 8]) == "·▂█"


def test_the_best_epoch_is_marked() -> None:
    stream = io.StringIO()
    plain = PlainScreen(Console(file=stream, width=100))
    plain.best_epoch(3.0)
    assert stream.getvalue() == "best so far: epoch 3\n"
    rich = RichScreen(Console(file=io.StringIO(), width=100))
    rich.best_epoch(3.0)
    assert rich.view.best == "epoch 3"
    assert kept_line(KeptEpoch("1-joint", 3.0, 30, 0.5)) == (
        "kept: epoch 3 of stage 1-joint, the best at full depth on validation (0.5000)"
    )
