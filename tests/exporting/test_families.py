"""Which encoder families export, and how; makes the table in docs/encoders.md.

DACT_WRITE_DOCS=1 scripts/test -m "" tests/exporting/test_families.py
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
QUICK = ("bert", "deberta-v2", "modernbert")  # the others are like one of them, and run with the slow tests
FOUND: dict[str, list[str]] = {}


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES]
)
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
    """All of it where the slow tests ran, and else the rows of the families that ran."""
    if Version(version("onnxruntime")) < Version(FUSES):
        pytest.skip("an older onnxruntime fuses less")
    text = DOCS.read_text(encoding="utf-8")
    lines = {name: f"| {' | '.join([f'`{name}`', *found])} |\n" for name, found in FOUND.items()}
    assert FOUND, "a test above failed or did not run"
    if os.environ.get("DACT_WRITE_DOCS"):
        assert set(FOUND) == set(encoders.FAMILIES), "a test above failed or did not run"
        head = "| family | attention | float32 | int8 |\n| --- | --- | --- | --- |\n"
        text = TABLE.sub(lambda _: head + "".join(lines[name] for name in encoders.FAMILIES), text)
        DOCS.write_text(text, encoding="utf-8")
    (made,) = [found.group() for found in TABLE.finditer(text)]
    assert all(line in made for line in lines.values()), "write the table anew"
    assert re.findall(r"`(.*?)`", made) == list(encoders.FAMILIES)
