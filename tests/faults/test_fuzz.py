"""Whatever stands in a recipe, a data file or a text: an answer, or one sentence; never a traceback."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dactcli.data.labels import Scale
from dactcli.data.sources import read_file
from dactcli.errors import DactError
from dactcli.inspection.trace import Texts, trace
from dactcli.recipe.load import load_recipe
from dactcli.runs.load import Run, load_run

QUICK = settings(max_examples=100, suppress_health_check=list(HealthCheck))

RECIPE = """
task: {name: t, labels: [a, b]}
data: {source: files, train: t.csv, validation: 0.1, text: x, label: y}
model: {encoder: {hidden_size: 8}, pooling: first}
dact: {tau: 1e-2, ponder: sum_p}
training: {stages: [{name: joint, tau: null}, {name: units}], epochs: 2}
"""
FILES = {
    "csv": b'sentence,label\n"a, ""b""",0\nc,1\n',
    "tsv": b'sentence\tlabel\na "b\t0\nc\t1\n',
    "jsonl": b'{"sentence": "a", "label": 0}\n{"sentence": "c", "label": 1}\n',
}
PIECES = [b"", b"\x00", b"\xff", b'"', b",", b"\n", b"\r", b"\t", b"{", b"[" * 60, b"1e999", b"NaN", b"\xed\xa0\x80"]


def mutated(original: bytes, seed: int) -> bytes:
    draw, text = random.Random(seed), original
    for _ in range(draw.randint(1, 5)):
        start = draw.randrange(len(text) + 1)
        piece = draw.choice([*PIECES, draw.randbytes(3)])
        text = text[:start] + piece + text[start + draw.randrange(6) :]
    return text


def survives(action: Callable[[], Any]) -> None:
    sentence, code = "", 0
    try:
        action()
    except DactError as error:
        sentence, code = error.sentence, error.exit_code
    assert "\n" not in sentence.strip()
    assert code in (0, 2, 3, 5)


def read(folder: Path, kind: str, content: bytes) -> None:
    path = folder / f"fuzz.{kind}"
    path.write_bytes(content)
    survives(lambda: read_file(str(path), text="sentence", label="label", scale=Scale(["a", "b"])))


def load(folder: Path, content: bytes) -> None:
    path = folder / "fuzz.yaml"
    path.write_bytes(content)
    survives(lambda: load_recipe(path))


@pytest.fixture(scope="session")
def small(trained_run: Path) -> Run:
    return load_run(trained_run)


def look(run: Run, texts: list[str]) -> None:
    traces = trace(run.model, run.tokenizer, Texts(texts), rule=run.model.rule("exact"))
    assert [one.text for one in traces] == texts


anything = st.text(st.characters(exclude_categories=()), max_size=80)  # lone surrogates and all


@QUICK
@given(content=st.binary(max_size=120) | st.builds(mutated, st.just(RECIPE.encode()), st.integers()))
def test_recipes(tmp_path: Path, content: bytes) -> None:
    load(tmp_path, content)


@QUICK
@given(
    kind=st.sampled_from([*FILES, "parquet"]),
    content=st.binary(max_size=120) | st.builds(mutated, st.sampled_from(sorted(FILES.values())), st.integers()),
)
def test_data_files(tmp_path: Path, kind: str, content: bytes) -> None:
    read(tmp_path, kind, content)


@QUICK
@given(texts=st.lists(anything, min_size=1, max_size=4))
def test_texts(small: Run, texts: list[str]) -> None:
    survives(lambda: look(small, texts))


@pytest.mark.slow
def test_twenty_thousand_recipes(tmp_path: Path) -> None:
    for seed in range(20_000):
        load(tmp_path, mutated(RECIPE.encode(), seed))


@pytest.mark.slow
def test_twenty_four_thousand_data_files(tmp_path: Path) -> None:
    for seed in range(8_000):
        for kind, original in FILES.items():
            read(tmp_path, kind, mutated(original, seed))


@pytest.mark.slow
def test_eight_thousand_texts(small: Run) -> None:
    draw = random.Random(0)
    for _ in range(400):
        texts = ["".join(chr(draw.choice(RANGES)(draw)) for _ in range(draw.randint(0, 60))) for _ in range(20)]
        survives(partial(look, small, texts))


RANGES: list[Callable[[random.Random], int]] = [
    lambda draw: draw.randrange(32, 127),
    lambda draw: draw.randrange(0, 32),
    lambda draw: draw.randrange(0xD800, 0xE000),
    lambda draw: draw.randrange(0x110000),
    lambda draw: draw.choice([0x200D, 0xFEFF, 0x202E, 0x0300, 0x1F469, 0xFFFD]),
]
