"""What a CUDA device computes is what the processor computes; `scripts/gpu-check` runs this and the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import TINY, dact, train

import dactcli
from dactcli.data.batches import encode, padded
from dactcli.halting import make_rule
from dactcli.model.engine import run_batches

pytestmark = pytest.mark.gpu
TEXTS = ["the key to the cabinets is rusty .", "the keys are old ."]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on the device, in bfloat16, that reads long texts in windows."""
    text = TINY.replace("max_length: 48", "max_length: 8, long: window")
    return Path(train(tmp_path_factory.mktemp("gpu"), text, "model.dtype=bfloat16", device="cuda").run)


def test_a_run_of_the_device_answers_alike_on_both(run: Path) -> None:
    cpu, cuda = (dactcli.predict(TEXTS, run=run, rule="exact", device=name) for name in ("cpu", "cuda"))
    assert [one.label for one in cpu] == [one.label for one in cuda]
    for one, other in zip(cpu, cuda, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)
    judged = dactcli.evaluate(run, device="cuda")
    assert judged.rules["exact"].agreement_with_full == 1


def test_windows_of_pooled_survivors(run: Path) -> None:
    opened = dactcli.open_run(run, device="cuda")
    encoded = encode(opened.tokenizer, TEXTS * 3, max_length=8, long_texts="window")
    batches = [(list(part), padded(opened.tokenizer, encoded, part, "cuda")) for part in ([0, 1, 2], [3, 4, 5])]
    pooled = run_batches(opened.model, make_rule("confidence:0.8"), batches, 6, regroup=1000)
    assert torch.equal(pooled.exit_layer[:2], pooled.exit_layer[2:4])


def test_profile_and_its_trace(run: Path, tmp_path: Path) -> None:
    result = dact("profile", run, "--device", "cuda", "--examples", "8", "--trace", tmp_path / "trace")
    assert result.exit_code == 0, result.stderr
    for dtype in ("bf16", "fp16"):
        assert dact("profile", run, "--device", "cuda", "--examples", "8", "--dtype", dtype).exit_code == 0


def test_an_export_on_the_device_answers_as_on_the_processor(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    from exports import halving_rule, saved

    from dactcli.runtime import load

    model = saved(tmp_path / "run", layers=3)
    dactcli.export(model, to=tmp_path / "out", rule=halving_rule(model))
    cpu, cuda = (load(tmp_path / "out", device=name).predict(TEXTS) for name in ("cpu", "cuda"))
    assert [(one.label, one.exit_layer) for one in cpu] == [(one.label, one.exit_layer) for one in cuda]
