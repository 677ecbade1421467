"""Predicting with an export: answers, pooling, damaged files, and no PyTorch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from docs_world import ROOT, blocks
from support import shared

from dactcli.api.predict import predict
from dactcli.errors import ResourceError, UsageError
from dactcli.results.predict import UNFINITE
from dactcli.runtime.engine import Answers, StageRunner, answer_rows
from dactcli.runtime.manifest import read_manifest

pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")

from exports import TEXTS, apart, exported, halving_rule, saved

from dactcli.runtime import load

TAILS = ("", "the dogs run .", "old", "the boy is old . the key is old .")
MANY = [f"{text} {tail}".strip() for tail in TAILS for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three layers and its export by stages, by a rule that lets about half of the rows leave early."""
    home = tmp_path_factory.mktemp("exports")
    run = saved(home / "run", layers=3)
    exported(run, home / "out", rule=halving_rule(run))
    return shared(home)


def test_survivors_of_several_batches_answer_as_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder / "out", threads=2)
    wanted = predict(MANY, run=folder / "run", rule=model.manifest.rule.text)
    assert len({one.exit_layer for one in wanted}) > 1
    for most in (1, 40, 1024):
        monkeypatch.setattr("dactcli.runtime.model.TOKENS", most)
        found = model.predict(MANY)
        assert [(one.label, one.exit_layer) for one in found] == [(one.label, one.exit_layer) for one in wanted]
        assert apart([one.probabilities for one in found], [one.probabilities for one in wanted]) < 1e-4
    assert model.predict([]) == []


def test_deep_stages_run_on_pooled_rows_without_needless_padding(folder: Path) -> None:
    model = load(folder / "out", threads=1)
    tokens, seen = model.tokenizer(MANY), []
    step = model.runner.step

    def counted(live: Any, wanted: Any = None) -> Any:
        mask = live.rows["attention_mask"]
        seen.append((live.stage, len(mask)))
        assert mask.shape[1] == mask.sum(1).max()
        return step(live, wanted)

    model.runner.step = counted  # type: ignore[method-assign]
    found = answer_rows(model.runner, tokens.batches(60), len(MANY), regroup=1000)
    first = [rows for stage, rows in seen if stage == 0]
    assert len(first) > 5
    # all batches have to wait for each other, so each of the deep stages runs once
    assert [stage for stage, _ in seen if stage > 0] == [1, 2]
    assert sum(rows for stage, rows in seen) == found.exit_layer.sum()
    assert sum(first) == len(MANY)


def test_answers_that_are_not_finite_say_so(folder: Path) -> None:
    model = load(folder / "out", threads=1)
    step = model.runner.step

    def spoilt(live: Any, wanted: Any = None) -> Any:
        outputs = step(live, wanted)
        where = live.positions == 1
        for name, values in outputs.items():
            if name.startswith(("score", "answer")):
                values[where] = np.nan
        return outputs

    model.runner.step = spoilt  # type: ignore[method-assign]
    found = model.predict(TEXTS)
    assert found[1].error == UNFINITE
    assert found[1].label is None
    assert all(one.error is None for place, one in enumerate(found) if place != 1)


def test_pairs_and_long_texts_are_cut_as_the_run_cuts_them(folder: Path) -> None:
    model = load(folder / "out", threads=1)
    texts, pairs = ["the key is old . " * 20, "the keys", "a\ud83d"], ["the dog runs . " * 30, "are old .", "cat"]
    run, rule = folder / "run", model.manifest.rule.text
    found, wanted = model.predict(texts, pairs), predict(texts, pairs=pairs, run=run, rule=rule)
    assert [(one.label, one.exit_layer) for one in found] == [(one.label, one.exit_layer) for one in wanted]
    assert max(model.tokenizer(texts, pairs).lengths) == 48
    with pytest.raises(UsageError, match="there are 1 second texts for 3 texts"):
        model.predict(texts, ["one"])
    with pytest.raises(UsageError, match=r"`texts`: is one text, and a list is needed; write \['the key'\]"):
        model.predict("the key")


def test_a_text_without_tokens_is_one_padding_token(folder: Path) -> None:
    model = load(folder / "out", threads=1)
    encode = model.tokenizer.tokenizer.encode_batch
    bare = SimpleNamespace(encode_batch=lambda texts: encode(texts, add_special_tokens=False))
    model.tokenizer.tokenizer = bare  # type: ignore[assignment]
    tokens = model.tokenizer(["", "the key"])
    assert tokens.ids[0] == [model.manifest.tokenizer.padding_id]
    assert tokens.rows([0, 1])["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert all(one.error is None for one in model.predict(["", "the key"]))


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

BANNED = {"torch", "transformers", "datasets", "pydantic", "rich", "typer", "scipy", "safetensors", "pandas", "pyarrow"}

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BANNED:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
from dactcli.runtime import load

for answer in load(sys.argv[1], threads=1).predict(["the keys are old .", "key"]):
    print(answer.label, answer.exit_layer)
assert not BANNED & {name.partition(".")[0] for name in sys.modules}
"""


def test_the_runtime_imports_no_torch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, folder / "out"], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    wanted = load(folder / "out", threads=1).predict(["the keys are old .", "key"])
    assert done.stdout.splitlines() == [f"{one.label} {one.exit_layer}" for one in wanted]


def test_the_loop_of_the_page_answers_as_the_runtime(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code as it is printed, on the texts of these tests."""
    page = ROOT / "docs" / "how-to" / "export.md"
    (code,) = (block.text for block in blocks(page) if block.language == "python" and "InferenceSession" in block.text)
    shutil.copytree(folder / "out", tmp_path / "sst2-onnx")
    monkeypatch.chdir(tmp_path)
    given = 'texts = ["a fine film .", "a poor story , and not a good plot ."]\n'
    assert given in code
    loop = code[code.index("left, answers") : code.index("for number, text")]
    assert len(loop.splitlines()) <= 15
    space: dict[str, Any] = {}
    exec(code.replace(given, f"texts = {TEXTS!r}\n"), space)
    wanted = load("sst2-onnx", threads=1).predict(TEXTS)
    assert apart([space["answers"][place] for place in range(len(TEXTS))], [one.probabilities for one in wanted]) < 1e-5
    # rows that leave early did not reach the last layer, whose answers differ
    assert len({one.exit_layer for one in wanted}) > 1


class Fixed:
    """A session that gives what it is told."""

    def __init__(self, **outputs: Any) -> None:
        self.outputs = outputs

    def run(self, names: list[str], given: dict[str, Any]) -> list[Any]:
        rows = given["attention_mask"][:, 0]
        return [self.outputs[name][rows] for name in names]


def test_a_score_that_is_not_a_number_leaves_at_the_end(folder: Path) -> None:
    manifest = read_manifest(folder / "out")
    first, _, last = manifest.stages
    ports = [port for port in first.inputs if port.name == "attention_mask"]
    stages = [replace(first, inputs=ports), replace(last, inputs=ports)]
    scores = np.array([np.nan, 0.1, 2.0, np.inf])
    answers = np.eye(4, 3, dtype=np.float32)
    runner = StageRunner(
        replace(manifest, stages=stages),
        [Fixed(score_1=scores, answer_1=answers), Fixed(score_3=scores, answer_3=answers + 1)],
    )
    mask = np.array([[0, 1], [1, 1], [2, 1], [3, 1]])
    found = answer_rows(runner, [(np.arange(4), {"attention_mask": mask})], 4, regroup=1)
    assert isinstance(found, Answers)
    assert found.exit_layer.tolist() == [3, 3, 1, 1]
    assert found.answer.max(1).tolist() == [2.0, 2.0, 1.0, 0.0]


def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    exported(saved(tmp_path / "run", layers=1), tmp_path / "out")
    with pytest.raises(UsageError, match="`device`: is 'tpu'; use one of cpu, cuda"):
        load(tmp_path / "out", device="tpu")
    if "CUDAExecutionProvider" not in sys.modules["onnxruntime"].get_available_providers():
        with pytest.raises(ResourceError, match="no CUDAExecutionProvider; pip install onnxruntime-gpu"):
            load(tmp_path / "out", device="cuda")
