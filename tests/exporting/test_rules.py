"""The traced exit heads compute what `dactcli.halting` does, for every rule and kind of answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import small_model

from dactcli.exporting.plan import ExportPlan
from dactcli.exporting.tracing import trace_heads
from dactcli.halting.decision import score_layers

onnxruntime = pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")
pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")

LAYERS = 3
SETS: dict[str, Any] = {"problem_type": "multi_label_classification", "label_thresholds": [0.3, 0.5, 0.7]}
VALUES: dict[str, Any] = {"labels": 1, "answer_range": (0.0, 5.0)}


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("exact", {}),
        ("settled:0.9", {}),
        ("settled:0.9", SETS),
        ("confidence:0.8", {"pooling": "attention", "halting_inputs": "answer"}),
        ("answer_entropy:0.2", {"pooling": "first"}),
        ("patience:1", {"objective": "layers"}),
        ("learned:0.5", {"certainty": True}),
        ("agreement:0.7", {"agreement": True, "halting_inputs": "answer", "objective": "layers"}),
        ("max_prob:0.8", {"labels": 2}),
        ("exact", {**SETS, "halting_inputs": "answer"}),
        ("patience:2", SETS),
        ("tolerance:0.1", VALUES),
        ("layer:2", VALUES),
        ("full", {}),
    ],
)
@torch.no_grad()
def test_the_graph_scores_as_the_rule_does(rule: str, settings: dict[str, Any]) -> None:
    model = small_model(layers=LAYERS, **settings)
    if model.units.certainty_weight is not None:
        model.units.certainty_weight.normal_()
    chosen = model.rule(rule)
    graph = trace_heads(model, ExportPlan((1, 2, LAYERS), chosen))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    hidden = [torch.randn(4, 5, 32) for _ in range(LAYERS)]
    given = {"attention_mask": mask} | {f"hidden_{n}": values for n, values in enumerate(hidden, start=1)}
    names = [one.name for one in session.get_outputs()]
    wanted_inputs = {one.name for one in session.get_inputs()}
    found = dict(
        zip(names, session.run(None, {k: v.numpy() for k, v in given.items() if k in wanted_inputs}), strict=True)
    )
    heads = [model.exit_outputs(n, values, mask) for n, values in enumerate(hidden, start=1)]
    y = torch.stack([model.answers.read(head.logits) for head in heads], 1)
    h = torch.stack([torch.sigmoid(head.halting_logits) for head in heads], 1)
    certainty = None
    if model.config.certainty:
        certainty = torch.stack([torch.sigmoid(head.certainty_logits) for head in heads], 1)
    scored = score_layers(chosen, y, h, certainty, mixes=model.mixes)
    for n in range(LAYERS):
        np.testing.assert_allclose(found[f"layer_answer_{n + 1}"], y[:, n], atol=1e-5)
        np.testing.assert_allclose(found[f"halting_{n + 1}"], h[:, n], atol=1e-5)
        answer = "layer_answer" if chosen.own_answer or not model.mixes else "answer"
        np.testing.assert_allclose(found[f"{answer}_{n + 1}"], scored.answers[:, n], atol=1e-5)
        if n + 1 < LAYERS:  # after the last layer every rule halts
            assert found[f"score_{n + 1}"].dtype == np.float64
            np.testing.assert_allclose(found[f"score_{n + 1}"], scored.scores[:, n], atol=1e-5)
