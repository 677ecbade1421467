"""Model folders that are torn or hostile: nothing in them runs, and the file at fault is named."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.test_checkpoints import Canary, flip, truncate, zero
from support import TINY, train

from dactcli.errors import ArtefactError, UsageError
from dactcli.profiling.environment import read_baseline
from dactcli.runs.calibration import load_calibration
from dactcli.runs.identity import identify
from dactcli.runs.load import load_run


@pytest.fixture
def model(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "model", symlinks=True))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def header(path: Path, length: int, text: bytes) -> None:
    """A safetensors file with a header of our making."""
    path.write_bytes(struct.pack("<Q", length) + text)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        zero,
        lambda path: path.write_bytes(b""),
        lambda path: header(path, 2**63, b"{}"),
        lambda path: header(path, 2, b"[]"),
        lambda path: header(path, 64, b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999]}}   '),
        lambda path: header(path, 62, b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}      '),
        Path.unlink,
    ],
)
def test_weights_that_are_no_safetensors(model: Path, damage: Callable[[Path], Any]) -> None:
    damage(model / "model.safetensors")
    with pytest.raises(ArtefactError, match="the weights cannot be loaded|weights, and the safetensors files hold"):
        load_run(model)


def test_a_flipped_bit_is_seen_where_a_calibration_was_made(model: Path, tiny_run: Path) -> None:
    """Weights alone cannot tell; what was promised about them becomes void."""
    run = load_run(model)
    facts = {**asdict(identify(run)), "split": "calibration", "data_fingerprint": "f", "distinct": 9}
    made = {"certified": False, "threshold": 0.9, "rules_tried": ["confidence"], "budget": 2.0}
    document = {"kind": "budget", "rule": "confidence:0.9", "layers_mean": 2.0, "examples": 9, **made, **facts}
    (model / "calibration.json").write_text(json.dumps(document))
    found, why = load_calibration(run)
    assert (found is not None, why) == (True, None)
    flip(model / "model.safetensors")
    found, why = load_calibration(load_run(model))
    assert found is None
    assert why is not None
    assert "void, because the weights changed" in why


WRONG = [
    {"rules_tried": None},
    {"examples": "many"},
    {"screened": 3},
    {"left_out": []},
    {"layers_mean": None},
    {"delta": None},
    {"kind": "vow"},
    {"loss": "regret"},
    {"data_fingerprint": 7},
    {"classes": {"a": {"examples": "x", "recall": 1, "full_recall": 1, "harm": 0, "disagreement": 0}}},
    {"rule": "confidence:0.4"},  # of another threshold than the certificate
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_calibration_with_a_value_that_cannot_be_is_void(model: Path, wrong: dict[str, Any]) -> None:
    run = load_run(model)
    made = {"kind": "risk", "rule": "confidence:0.9", "threshold": 0.9, "certified": True, "layers_mean": 2.0}
    terms = {"loss": "harm", "epsilon": 0.1, "delta": 0.1, "delta_spent": 0.05, "attempt": 1, "observed": 0}
    sample = {"rules_tried": ["confidence"], "examples": 9, "distinct": 9, "split": "a", "data_fingerprint": "f"}
    document = {**made, **terms, **sample, **asdict(identify(run))}
    (model / "calibration.json").write_text(json.dumps(document))
    assert load_calibration(run)[1] is None
    if "layers_mean" in wrong:
        wrong = {**wrong, "kind": "budget", "budget": 2.0}
    (model / "calibration.json").write_text(json.dumps({**document, **wrong}))
    found, why = load_calibration(run)
    assert found is None
    assert why is not None
    assert "cannot be read and is void" in why


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": 99}', '{"rule": 3}', "\x00"])
def test_a_calibration_that_cannot_be_read_is_void(model: Path, text: str) -> None:
    (model / "calibration.json").write_text(text)
    found, why = load_calibration(load_run(model))
    assert found is None
    assert why is not None
    assert str(model / "calibration.json") in why


def test_pickled_weights_beside_missing_ones_are_not_loaded(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (model / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "tf_model.h5"):
        (model / name).write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ArtefactError, match="the weights cannot be loaded|weights, and the safetensors files hold"):
        load_run(model)
    assert not canary.exists()


def test_code_beside_a_model_is_not_run(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    change(model / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    with pytest.raises(ArtefactError, match="auto_map asks for remote code"):
        load_run(model)
    assert not canary.exists()


def test_code_beside_a_tokenizer_is_not_run(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    change(
        model / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
        tokenizer_class="Evil",
    )
    with pytest.raises(ArtefactError, match=r"auto_map asks for code|the tokenizer cannot be loaded"):
        load_run(model)
    assert not canary.exists()


def test_an_encoder_that_brings_code_is_not_trained_on(tiny_run: Path, tmp_path: Path) -> None:
    run, canary, folder = load_run(tiny_run), tmp_path / "canary", tmp_path / "encoder"
    run.model.encoder.save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    change(folder / "config.json", auto_map={"AutoModel": "evil.Evil"})
    text = TINY.replace(TINY[TINY.index("  encoder:") : TINY.index("  pooling")], f"  encoder: {folder}\n")
    with pytest.raises(ArtefactError, match="auto_map asks for remote code"):
        train(tmp_path, text)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"model": {"type": "Evil"}}'])
def test_a_tokenizer_that_cannot_be_read_is_named(model: Path, name: str, text: str) -> None:
    (model / name).write_text(text)
    with pytest.raises(ArtefactError, match="tokenizer"):
        load_run(model)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 100_000, "cannot be read"),
        ("\x00\x01", "cannot be read"),
        ("[]", "is not a JSON object"),
        ('{"model_type": "dact", "dact_format": 3}', "has format 3, and this dact reads formats up to 2; update dact"),
        ('{"model_type": "dact", "dact_format": "x"}', "has format 'x', and this dact reads formats up to 2; write"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(model: Path, text: str, fault: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(ArtefactError, match=fault) as caught:
        load_run(model)
    assert str(model / "config.json") in caught.value.sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 999),
        ("hidden_size", 10**9),
        ("hidden_size", -4),
        ("hidden_size", "x"),
        ("num_attention_heads", 0),
        ("vocab_size", 10**12),
        ("max_position_embeddings", -1),
        ("hidden_act", "__import__"),
        ("intermediate_size", 0.5),
        ("layer_norm_eps", "x"),
    ],
)
def test_sizes_that_cannot_be_are_refused_without_filling_the_memory(model: Path, key: str, value: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    change(model / "config.json", encoder_config={**config["encoder_config"], key: value})
    with pytest.raises(ArtefactError) as caught:
        load_run(model)
    assert str(model) in caught.value.sentence


@pytest.mark.parametrize("text", ["", "a: [", "format: 2\n", "data: {source: builtin}\n"])
def test_a_damaged_recipe_of_a_run_is_named(model: Path, text: str) -> None:
    (model / "recipe.yaml").write_text(text)
    with pytest.raises(ArtefactError, match=r"recipe\.yaml"):
        load_run(model)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format": 9}', '{"cases": [1]}', "\x00"])
def test_a_baseline_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    with pytest.raises((UsageError, ArtefactError), match=r"`baseline` .*earlier\.json"):
        read_baseline(path)


def test_a_newer_recipe_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml:2: has format 3, and this dact reads formats up to 2; update"):
        train(tmp_path, TINY.replace("\n", "\nformat: 3\n", 1))


def test_weights_of_another_type_still_load(model: Path) -> None:
    """bfloat16 files are read as float32, not refused."""
    from safetensors.torch import load_file, save_file

    weights = {name: value.bfloat16() for name, value in load_file(model / "model.safetensors").items()}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert load_run(model).model.dtype == torch.float32


def test_an_unknown_way_to_read_long_texts_is_refused(model: Path) -> None:
    change(model / "config.json", long_texts="tail")
    with pytest.raises(ArtefactError, match=r"long_texts is 'tail'; it must be one of cut, head\+tail"):
        load_run(model)
