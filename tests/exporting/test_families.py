"""Which encoder families export, and how; makes the table in docs/encoders.md.

DACT_WRITE_DOCS=1 scripts/test tests/exporting/test_families.py
"""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version
from support import FAMILIES

from dactcli.api.predict import predict
from dactcli.model import encoders

pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")

from exports import TEXTS, apart, exported, halving_rule, saved

DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"
TABLE = re.compile(r"(?<=<!-- made by tests/exporting/test_families.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
LAYERS = 2
FUSES = "1.32"  # the onnxruntime of the table
FOUND: dict[str, list[str]] = {}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_export_answers_as_the_model_does(name: str, tmp_path: Path) -> None:
    """float32: the same class after the same layer, probabilities within 1e-4; int8: an answer for every text."""
    run = saved(tmp_path / "run", name, layers=4 if name == "albert" else LAYERS)
    rule = halving_rule(run)
    wanted = predict(TEXTS, run=run, rule=rule)
    model = exported(run, tmp_path / "float32", rule=rule)
    found = model.predict(TEXTS)
    assert len({one.exit_layer for one in wanted}) > 1
    assert [(one.label, one.exit_layer) for one in found] == [(one.label, one.exit_layer) for one in wanted]
    assert apart([one.probabilities for one in found], [one.probabilities for one in wanted]) < 1e-4
    assert [model.predict([text])[0].exit_layer for text in TEXTS] == [one.exit_layer for one in wanted]
    quantised = exported(run, tmp_path / "int8", rule=rule, int8=True)
    assert all(one.error is None and one.exit_layer for one in quantised.predict(TEXTS))
    small, large = (sum(stage.bytes for stage in one.manifest.stages) for one in (quantised, model))
    assert small < large
    fused, layers = model.manifest.fused, model.manifest.layers
    attention = {layers: "fused", 0: "not fused"}.get(fused, f"fused in {fused} of {layers} layers")
    FOUND[name] = [attention, "yes", "yes"]


@pytest.mark.last
def test_the_table_in_the_docs_is_what_has_just_passed() -> None:
    if Version(version("onnxruntime")) < Version(FUSES):
        pytest.skip("an older onnxruntime fuses less")
    rows = [["family", "attention", "float32", "int8"], ["---"] * 4]
    rows += [[f"`{name}`", *FOUND.get(name, ["", "no", "no"])] for name in encoders.FAMILIES]
    made = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = DOCS.read_text(encoding="utf-8")
    assert "| no |" not in made, f"a test above failed or did not run:\n{made}"
    if os.environ.get("DACT_WRITE_DOCS"):
        text = TABLE.sub(lambda _: made, text)
        DOCS.write_text(text, encoding="utf-8")
    assert [found.group() for found in TABLE.finditer(text)] == [made], "write the table anew"
