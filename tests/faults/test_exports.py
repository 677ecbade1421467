"""Exports that are damaged, incomplete or cannot be written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import shared

from dactcli.api.export import export
from dactcli.errors import ArtefactError, ResourceError, UsageError
from dactcli.runtime.manifest import read_manifest
from dactcli.storage import sha256

pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
pytest.importorskip("onnxruntime", reason="needs dactcli[onnx]")

from exports import saved

from dactcli.runtime import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two layers and its export."""
    home = tmp_path_factory.mktemp("exports")
    export(saved(home / "run", layers=2), to=home / "out")
    return shared(home)


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def edit(**changed: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, **changed}))

    return change


FAULTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("stage-2.onnx", flip, "stage-2.onnx: is damaged; export the run again"),
    ("stage-2.onnx", Path.unlink, "stage-2.onnx: cannot be read: No such file or directory; export the run again"),
    ("tokenizer.json", flip, "tokenizer.json: is damaged"),
    ("dact.json", Path.unlink, "is not an export: it has no dact.json; make one with: dact export RUN --to FOLDER"),
    ("dact.json", lambda path: path.write_text("{"), "dact.json: is damaged; export the run again"),
    ("dact.json", lambda path: path.write_text("[" * 100_000), "dact.json: is damaged"),
    ("dact.json", edit(format=99), "has format 99, and this dact reads formats up to"),
    ("dact.json", edit(stages=[]), "dact.json: is damaged"),
    ("dact.json", edit(layers=7), "dact.json: is damaged"),
    ("dact.json", edit(kind="poems"), "dact.json: is damaged"),
    ("dact.json", edit(rule={"text": "exact", "threshold": None, "cut": "1"}), "dact.json: is damaged"),
    ("dact.json", edit(labels=[None]), "dact.json: is damaged"),
    ("dact.json", edit(labels=[]), "dact.json: is damaged"),
    ("dact.json", edit(label_thresholds=[0.5]), "dact.json: is damaged"),
    ("dact.json", edit(opset=True), "dact.json: is damaged"),
    ("dact.json", edit(novel=1), "dact.json: is damaged"),
]


@pytest.mark.parametrize(("name", "fault", "sentence"), FAULTS)
def test_a_damaged_export_is_one_sentence(
    name: str, fault: Callable[[Path], Any], sentence: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    fault(tmp_path / "out" / name)
    with pytest.raises(ArtefactError) as caught:
        load(tmp_path / "out")
    assert sentence in caught.value.sentence
    assert str(tmp_path / "out") in caught.value.sentence


def test_a_name_in_the_manifest_does_not_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    path = tmp_path / "out" / "dact.json"
    document = json.loads(path.read_text())
    document["stages"][0]["file"] = "../out/stage-1.onnx"
    path.write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match="is damaged"):
        read_manifest(tmp_path / "out")


def test_a_file_that_onnxruntime_does_not_take_is_one_sentence(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    stage, path = tmp_path / "out" / "stage-1.onnx", tmp_path / "out" / "dact.json"
    stage.write_bytes(b"not a graph")
    document = json.loads(path.read_text())
    document["stages"][0]["sha256"] = sha256(stage)
    path.write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match="stage-1.onnx: onnxruntime .* cannot load it: .*update onnxruntime, or"):
        load(tmp_path / "out")
    assert capfd.readouterr().out == ""


def test_what_an_export_lacks_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtefactError, match="nowhere: no such folder; make one with: dact export"):
        load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="`threads`: is 0; give at least 1"):
        load(folder / "out", threads=0)
    for name in ("onnxruntime", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ResourceError, match=f"{name} is not installed; pip install {name}"):
                load(folder / "out")


def test_a_full_disk_leaves_no_export(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dactcli.exporting.folder.write", full)
    with pytest.raises(ResourceError, match="cannot be written: No space left on device; free the disk, or name"):
        export(folder / "run", to=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
