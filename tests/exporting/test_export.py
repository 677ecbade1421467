"""`dact export`: what is written, what it promises, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FAMILIES, Told, dact, tiny_on_files, train

from dactcli.api.common import open_run
from dactcli.api.export import ExportRequest, export
from dactcli.api.predict import predict
from dactcli.errors import ArtefactError, ResourceError, UsageError
from dactcli.evaluation.calibrate import Measured, calibrate_risk
from dactcli.evaluation.exports import AGAINST, certify_export, changed_answers, export_digest
from dactcli.evaluation.requests import RiskRequest
from dactcli.evaluation.sample import CalibrationSample
from dactcli.exporting import plan
from dactcli.exporting.folder import joined
from dactcli.exporting.outliers import scale_outliers
from dactcli.exporting.plan import ExportPlan
from dactcli.exporting.stock import StockOnnx
from dactcli.halting.rules import Confidence, Full
from dactcli.runs.calibration import load_attempts
from dactcli.runs.identity import identify
from dactcli.runs.load import Run, save_model
from dactcli.runs.outputs import LayerOutputs

pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")

from exports import TEXTS, apart, exported, halving_rule, saved

from dactcli.runtime import load


@pytest.fixture(scope="module")
def certified_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a calibration split, which is not calibrated yet."""
    folder = tmp_path_factory.mktemp("certified")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text = tiny_on_files("calibration.jsonl").replace("dact:", "evaluation: {risk: null}\ndact:")
        return Path(train(folder, text).run)


@pytest.fixture
def calibratable(certified_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own copy of it, with its data."""
    shutil.copytree(certified_run.parents[1], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "runs" / certified_run.name


def test_rows_leave_after_the_stages_alone(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=4)
    rule = halving_rule(run, layer=2)
    model = exported(run, tmp_path / "out", stages=[2, 4], rule=rule)
    manifest = model.manifest
    assert [(stage.first_layer, stage.last_layer) for stage in manifest.stages] == [(1, 2), (3, 4)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "dact.json",
        "stage-1.onnx",
        "stage-2.onnx",
        "tokenizer.json",
    ]
    from dactcli.halting.decision import decide

    encoded = run.tokenizer(TEXTS, padding=True, return_tensors="pt")
    wanted = decide(run.model.rule(rule), *run.model.layer_outputs(**encoded)[:2], exits=(2, 4))
    found = model.predict(TEXTS)
    assert [one.exit_layer for one in found] == wanted.exit_layer.tolist()
    assert {one.exit_layer for one in found} == {2, 4}
    assert apart([one.probabilities for one in found], wanted.answer.tolist()) < 1e-4
    assert manifest.certificate is None
    assert (manifest.rule.text, manifest.rule.cut) == (rule, run.model.rule(rule).threshold)


def test_one_graph_of_the_first_layers_has_no_exit(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=3)
    done = export(run, to=tmp_path / "out", layers=2)
    assert (done.layers, done.model_layers, done.stages, done.rule, done.failure) == (2, 3, [2], "full", None)
    assert done.files == ["config.json", "dact.json", "model.onnx", "tokenizer.json"]
    found = load(tmp_path / "out", threads=1).predict(TEXTS)
    assert {one.exit_layer for one in found} == {2}
    encoded = run.tokenizer(TEXTS, padding=True, return_tensors="pt")
    y, h, _ = run.model.layer_outputs(**encoded)
    from dactcli.halting.decision import decide

    wanted = decide(Full(), y[:, :2], h[:, :2]).answer
    assert apart([one.probabilities for one in found], wanted.tolist()) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"problem_type": "multi_label_classification", "label_thresholds": [0.3, 0.5, 0.7]},
        {"labels": 1, "answer_range": (0.0, 5.0)},
        {"objective": "layers", "pooling": "first"},
        {"keep_classifier": True, "objective": "layers"},
    ],
)
def test_every_kind_of_answer(settings: dict[str, Any], tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=2, **settings)
    run.model.config.id2label = {index: str(index + 5) for index in range(run.model.classes)}
    found = exported(run, tmp_path / "out").predict(TEXTS)
    wanted = predict(TEXTS, run=run)
    assert [one.exit_layer for one in found] == [one.exit_layer for one in wanted]
    if run.model.regression:
        assert apart([one.label for one in found], [one.label for one in wanted]) < 1e-3
        return
    assert [one.label for one in found] == [one.label for one in wanted]
    assert [one.label_id for one in found] == [one.label_id for one in wanted]
    assert apart([one.probabilities for one in found], [one.probabilities for one in wanted]) < 1e-4


def test_an_export_is_certified_against_the_pytorch_model(calibratable: Path, tmp_path: Path) -> None:
    told = Told()
    done = export(calibratable, to=tmp_path / "out", risk=0.2, delta=0.1, listener=told)
    assert done.failure is None
    assert done.promise is not None
    assert "differently from the PyTorch model at full depth with probability at most 0.2" in done.promise
    assert done.changed is not None
    assert (done.changed.split, done.changed.different) == ("calibration", 0)
    model = load(tmp_path / "out", threads=1)
    certificate = model.manifest.certificate
    assert certificate is not None
    assert (certificate["rule"], certificate["against"], certificate["dtype"]) == (done.rule, AGAINST, "float32")
    assert model.manifest.rule.cut == certificate["threshold"]
    run = open_run(calibratable)
    (attempt,) = load_attempts(calibratable)
    assert attempt["model"] == export_digest(identify(run).digest, "float32", (1, 2, 3)) != identify(run).digest
    # the run itself is as it was
    assert not (calibratable / "calibration.json").exists()
    again = export(calibratable, to=tmp_path / "out", risk=0.2, delta=0.1, overwrite=True)
    assert again.rule == done.rule
    assert len(load_attempts(calibratable)) == 1


def test_a_certificate_of_the_run_is_made_anew(calibratable: Path, tmp_path: Path) -> None:
    assert dact("eval", calibratable, "--calibrate", "risk=0.2,delta=0.1").exit_code == 0
    own = json.loads((calibratable / "calibration.json").read_text())
    done = export(calibratable, to=tmp_path / "out")
    certificate = load(tmp_path / "out", threads=1).manifest.certificate
    assert certificate is not None
    assert (certificate["epsilon"], certificate["delta"]) == (0.2, 0.1)
    assert own["against"] == "full depth"
    assert done.rule.partition(":")[0] == own["rule"].partition(":")[0]
    other = export(calibratable, to=tmp_path / "given", rule="confidence:0.7")
    assert (other.rule, other.promise, other.failure) == ("confidence:0.7", None, None)


def test_without_a_certificate_the_sound_rule_is_exported(calibratable: Path, tmp_path: Path) -> None:
    done = export(calibratable, to=tmp_path / "out", risk=1e-6)
    assert done.rule == "exact"
    assert done.failure is not None
    assert "can be certified for a risk of 1e-06" in done.failure
    assert done.promise == "the class is that of this export's own full depth"
    model = load(tmp_path / "out", threads=1)
    assert (model.manifest.certificate, model.manifest.rule.text, model.manifest.rule.cut) == (None, "exact", 1.0)
    texts = ["the key to the cabinets is rusty .", "the keys are old ."]
    wanted = predict(texts, run=calibratable, rule="exact")
    assert [(one.label, one.exit_layer) for one in model.predict(texts)] == [(o.label, o.exit_layer) for o in wanted]


@pytest.mark.slow
def test_examples_that_are_gone_are_a_notice_unless_they_were_asked_for(calibratable: Path, tmp_path: Path) -> None:
    assert dact("eval", calibratable, "--calibrate", "risk=0.2,delta=0.1").exit_code == 0
    recipe = calibratable / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("calibration.jsonl", "gone.jsonl"))
    told = Told()
    done = export(calibratable, to=tmp_path / "out", listener=told)
    assert (done.rule, done.changed) == ("exact", None)
    assert done.failure == "there are no examples to calibrate on; give fresh ones with `data` FILE"
    assert any("gone.jsonl" in text and "not calibrated" in text for text in told.notices)
    with pytest.raises(UsageError, match="gone.jsonl"):
        export(calibratable, to=tmp_path / "other", risk=0.2)
    assert not (tmp_path / "other").exists()


def outputs(classes: torch.Tensor, sure: float) -> LayerOutputs:
    """Outputs of two layers that answer these classes alike [E], `sure` of them."""
    y = torch.full((len(classes), 2, 2), 1 - sure)
    y[torch.arange(len(classes)), :, classes] = sure
    return LayerOutputs(y, torch.full((len(classes), 2), 0.5), objective="layers", exits=(1, 2))


def test_a_loss_is_an_answer_that_the_pytorch_model_does_not_give(tmp_path: Path) -> None:
    """An export that changes 3% by itself cannot certify 1%, however it halts; its own full depth would allow it."""
    right = torch.arange(1000) % 2
    wrong = torch.where(torch.arange(1000) < 30, 1 - right, right)
    model, quantised = outputs(right, 0.9), outputs(wrong, 0.8)
    found = changed_answers(quantised, model, "calibration")
    assert (found.different, found.rate) == (30, 0.03)
    facts: dict[str, Any] = dict.fromkeys(("weights_sha256", "config_sha256", "tokenizer_sha256", "dtype", "split"), "")
    facts |= {"max_length": 8, "data_fingerprint": "", "against": AGAINST}
    measured = Measured(quantised, np.arange(1000), None, reference=model)
    for risk, passes in ((0.01, False), (0.06, True)):
        one = calibrate_risk(measured, [Confidence(1.0)], RiskRequest(risk), delta=0.05, facts=facts)
        assert one.certified is passes
    alone = calibrate_risk(
        replace(measured, reference=None), [Confidence(1.0)], RiskRequest(0.01), delta=0.05, facts=facts
    )
    assert alone.certified


def test_int8_that_changes_too_much_says_so(
    calibratable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dactcli.api.export as module

    measure = module._measure

    def wrong(*args: Any) -> Any:
        found = measure(*args)
        assert found is not None
        return replace(found, export=replace(found.export, y=found.export.y.flip(2)))

    monkeypatch.setattr(module, "_measure", wrong)
    result = dact("export", calibratable, "--to", tmp_path / "out", "--int8", "--risk", 0.2)
    assert result.exit_code == 0
    told = " ".join(result.stdout.replace("│", " ").split())
    assert "int8 alone changes " in told
    assert (
        "more than the risk of 20%; allow a larger --risk, leave layers in float32 with --float-layers, or leave out --int8"
        in told
    )
    assert load(tmp_path / "out", threads=1).manifest.rule.text == "exact"


def test_int8_is_the_encoder_alone(tmp_path: Path) -> None:
    """Attention, products and embeddings become int8; the exit heads stay in float32."""
    import onnx

    run = saved(tmp_path / "run", layers=2, pooling="attention")
    fused = export(run, to=tmp_path / "out", int8=True).fused == 2  # not by onnxruntime 1.23
    for number in (1, 2):
        graph = onnx.load(tmp_path / "out" / f"stage-{number}.onnx").graph
        types = {one.name: one.data_type for one in graph.initializer}
        heads = {name: kind for name, kind in types.items() if name.startswith("heads/")}
        assert onnx.TensorProto.INT8 not in heads.values()
        weights = [kind for name, kind in types.items() if name.endswith("_quantized")]
        # attention, its output, and two of the feed-forward part
        assert weights.count(onnx.TensorProto.INT8) == (4 if fused else 6)
        assert weights.count(onnx.TensorProto.UINT8) == 3 * (number == 1)  # embeddings, which multiply nothing
        operators = [node.op_type for node in graph.node]
        assert (operators.count("QAttention"), operators.count("MatMulInteger")) == ((1, 3) if fused else (0, 6))
        # seven bits
        values = [
            onnx.numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8
        ]
        assert 32 < max(int(np.abs(one.astype(int)).max()) for one in values) <= 64


def with_an_outlier(folder: Path) -> Run:
    """A run one of whose feed-forward channels is far larger than the others, and weighs as much less."""
    run = saved(folder, layers=2)
    layer = run.model.encoder.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.bias[3] = 40.0
        layer.output.dense.weight[:, 3] /= 40.0
    save_model(run.model, run.tokenizer, folder)
    return open_run(folder)


def answers_of_layer_2(whole: Any, encoded: Any) -> np.ndarray[Any, Any]:
    """What a graph in memory answers after layer 2 [B, C]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(whole.SerializeToString())
    read = {one.name for one in session.get_inputs()}
    (found,) = session.run(["layer_answer_2"], {name: value for name, value in encoded.items() if name in read})
    return np.asarray(found)


def test_large_channels_are_scaled_before_they_become_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_an_outlier(tmp_path / "run")
    whole, _ = joined(run, ExportPlan((1, 2), Full()))
    encoded = run.tokenizer(TEXTS, padding=True, return_tensors="np")

    before = answers_of_layer_2(whole, encoded)
    assert scale_outliers(whole, run) == 1
    assert apart(answers_of_layer_2(whole, encoded), before) < 1e-5
    assert scale_outliers(whole, run) == 0

    wanted = run.model.layer_outputs(**run.tokenizer(TEXTS, padding=True, return_tensors="pt"))[0].detach().numpy()
    errors = []
    for scaled in (True, False):
        if not scaled:
            monkeypatch.setattr("dactcli.exporting.folder.scale_outliers", lambda whole, run: 0)
        model = exported(run, tmp_path / f"out-{scaled}", int8=True, rule="full")
        errors.append(apart(model.layer_outputs(model.tokenizer(TEXTS))["layer_answer"], wanted))
    assert errors[0] < errors[1] / 2


def test_layers_that_stay_in_float32(tmp_path: Path) -> None:
    import onnx

    run = saved(tmp_path / "run", layers=3)
    out = tmp_path / "out"
    model = exported(run, out, int8=True, rule="full", float_layers=[3, 2], stages=[1, 3])
    assert model.manifest.arithmetic == "int8, layers 2, 3 in float32"
    operators = [node.op_type for node in onnx.load(out / "stage-2.onnx").graph.node]
    assert not {"MatMulInteger", "QAttention"} & set(operators)
    operators = [node.op_type for node in onnx.load(out / "stage-1.onnx").graph.node]
    assert "MatMulInteger" in operators
    whole = exported(run, tmp_path / "whole", int8=True, rule="full", stages=[1, 3])
    wanted = run.model.layer_outputs(**run.tokenizer(TEXTS, padding=True, return_tensors="pt"))[0].detach().numpy()
    kept, all_int8 = (one.layer_outputs(one.tokenizer(TEXTS))["layer_answer"] for one in (model, whole))
    assert apart(kept[:, 0], all_int8[:, 0]) == 0  # layer 1 is the same
    assert np.abs(kept - wanted).mean() < np.abs(all_int8 - wanted).mean()
    stock = StockOnnx(run, model.manifest, threads=1)
    assert stock.inputs


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scales_and_keeps_layers(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all products scaled the answers stay; a layer in float32 multiplies by no int8 weight."""
    import onnx

    run = saved(tmp_path / "run", family, layers=2)
    monkeypatch.setattr("dactcli.exporting.outliers.APART", 0.0)
    whole, _ = joined(run, ExportPlan((1, 2), Full()))
    encoded = run.tokenizer(TEXTS[:5], padding=True, return_tensors="np")

    before = answers_of_layer_2(whole, encoded)
    assert scale_outliers(whole, run) >= 6
    assert apart(answers_of_layer_2(whole, encoded), before) < 1e-4
    exported(run, tmp_path / "out", int8=True, rule="full", stages=[2], float_layers=[2])
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    kept = [node for node in graph.node if node.name.startswith("float32/")]
    assert kept
    weights = {one.name: one.data_type for one in graph.initializer}
    assert {weights[node.input[1]] for node in kept if node.input[1] in weights} <= {onnx.TensorProto.FLOAT}
    assert all(node.op_type != "DequantizeLinear" or "embed" in node.input[0] for node in graph.node)


def test_the_threshold_heeds_the_stages(tmp_path: Path) -> None:
    """Where rows may leave after layer 2 only, the certificate is about leaving there."""
    run = saved(tmp_path / "run", layers=2)
    right = torch.arange(600) % 2
    sample = CalibrationSample("few", None, np.arange(600), "print")  # type: ignore[arg-type]
    sample = replace(sample, encoded=type("Labels", (), {"labels": None})())
    early = outputs(right, 0.9)
    early.y[:, 0] = early.y[:, 0].flip(-1)  # layer 1 is always wrong
    model = outputs(right, 0.9)
    for exits, layers in (((1, 2), 2.0), ((2,), 2.0)):
        found = certify_export(
            run, Confidence(1.0), RiskRequest(0.05), sample, (replace(early, exits=exits), model), arithmetic="float32"
        )
        assert found.layers_mean is None or found.layers_mean == layers
        assert found.certified
    assert [one["attempt"] for one in load_attempts(run.folder)] == [1, 1]


def test_json_and_screen(tmp_path: Path) -> None:
    saved(tmp_path / "run", layers=2)
    out = tmp_path / "out"
    result = dact(
        "export", tmp_path / "run", "--to", out, "--stages", "1,2", "--rule", "exact", "--opset", 20, "--json"
    )
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["stages"], document["rule"], document["precision"]) == ([1, 2], "exact", "float32")
    assert document["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    manifest = json.loads((out / "dact.json").read_text())
    assert manifest["opset"] == 20
    assert set(manifest["made_with"]) >= {"torch", "onnx", "onnxruntime"}
    kept = ("--int8", "--float-layers", "2", "--rule", "full")
    result = dact("export", tmp_path / "run", "--to", tmp_path / "kept", *kept, "--json")
    document = json.loads(result.stdout)
    assert (document["precision"], document["float_layers"]) == ("int8", [2])
    assert json.loads((tmp_path / "kept" / "dact.json").read_text())["float_layers"] == [2]
    result = dact("export", tmp_path / "run", "--to", tmp_path / "kept", *kept, "--overwrite")
    assert "int8 but for layer 2" in " ".join(result.stdout.split())
    result = dact("export", tmp_path / "run", "--to", out, "--layers", 1, "--overwrite")
    assert "one graph of 1 layer" in " ".join(result.stdout.split())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stages": [2, 1]}, "`stages`: 2,1 does not name layers of this model in order; give numbers from 1 to 2"),
    ({"stages": [1]}, "`stages` 1: the last stage ends after layer 1, and the model has 2; add 2, or use `layers`"),
    ({"stages": [1, 3]}, "`stages`: 1,3 does not name layers"),
    ({"layers": 3}, "`layers`: is 3; give a number from 1 to 2"),
    ({"float_layers": [1]}, "`float_layers` 1: is for `int8`; add `int8`, or leave it out"),
    ({"float_layers": [1.0], "int8": True}, "`float_layers`: 1.0 is not a list of layers; give whole numbers"),
    ({"float_layers": "1,2", "int8": True}, "`float_layers`: is one text, and a list is needed"),
    ({"float_layers": [1, 3], "int8": True}, "`float_layers`: 1,3 does not name layers of this export; give numbers"),
    ({"opset": 17}, "`opset`: is 17; give 18 to 23"),
    ({"rule": "exact", "risk": 0.1}, "`risk`: rule exact has no threshold to choose"),
    ({"rule": "nonsense"}, "`rule`: rule 'nonsense' is unknown"),
    ({"rule": "confidence"}, "this model was saved without a recipe; give `data` FILE"),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED)
def test_what_does_not_fit_is_one_sentence(fields: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=2)
    with pytest.raises(UsageError) as caught:
        export(run, to=tmp_path / "out", **fields)
    assert sentence in caught.value.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_requests_that_contradict_themselves() -> None:
    for fields in ({"stages": [1]}, {"rule": "exact"}, {"risk": 0.1}):
        with pytest.raises(UsageError, match="one graph has no early exit"):
            ExportRequest("out", layers=1, **fields)
    with pytest.raises(UsageError, match="`risk`: is 2; give a number between 0 and 1"):
        ExportRequest("out", risk=2.0)
    with pytest.raises(UsageError, match="`text`: names a column of a file"):
        ExportRequest("out", text="review")
    result = dact("export", "--to", "out", "--stages", "1;2")
    assert result.exit_code == 2
    assert "--stages 1;2: is not a list of layers" in result.stderr


def test_folders_that_hold_something_else_stay(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for fields, sentence in (
        ({"to": tmp_path / "mine"}, "already exists"),
        ({"to": tmp_path / "mine", "overwrite": True}, "is not an export and is not replaced"),
        ({"to": tmp_path / "run" / "onnx"}, "is inside the run's own folder"),
        ({"to": tmp_path / "run", "overwrite": True}, "is where the run itself stands"),
    ):
        with pytest.raises(UsageError, match=sentence):
            export(run, **fields)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_be_exported(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=1)
    run.model.to(torch.bfloat16)
    with pytest.raises(ArtefactError, match="computes in bfloat16, and an export computes in float32"):
        export(run, to=tmp_path / "out")
    run.model.to(torch.float32)
    run.model.config.long_texts = "head+tail"
    with pytest.raises(ArtefactError, match=r"trained with data.long: head\+tail, and an export cuts long texts"):
        export(run, to=tmp_path / "out")
    run.model.config.long_texts = "cut"
    with pytest.raises(ArtefactError, match="runs in Python only"):
        export(replace(run, tokenizer=object()), to=tmp_path / "out")


def test_an_export_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved(tmp_path / "run", layers=1)
    monkeypatch.setattr("dactcli.exporting.probes.largest_difference", lambda *_: float("nan"))
    with pytest.raises(ArtefactError, match="from the model's, so it is not written"):
        export(run, to=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_attention_and_mode_of_the_model_stay(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", layers=1)
    before = run.model.encoder.config._attn_implementation
    assert before != "eager"
    export(run, to=tmp_path / "out")
    assert run.model.encoder.config._attn_implementation == before
    assert predict(["the keys are old ."], run=run)[0].exit_layer == 1


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda name: None if name == "onnx" else object())
    with pytest.raises(ResourceError, match="onnx is not installed; pip install 'dactcli\\[onnx\\]'"):
        export("nowhere", to="out")
