"""dact.json: what an export consists of, and how to run it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dactcli.errors import ArtefactError
from dactcli.storage import check_format, sha256

MANIFEST, TOKENIZER = "dact.json", "tokenizer.json"
Kind = Literal["classes", "multilabel", "regression"]


@dataclass(frozen=True)
class Port:
    """An input or output of a stage.

    Attributes:
        name: Its name.
        dtype: Its type, as ONNX names it, such as `float`.
        shape: Its axes: numbers, `rows` or `tokens`.
    """

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True)
class StageFile:
    """A part of the model, and what it does.

    Attributes:
        file: Name of its file.
        sha256: SHA-256 of the file.
        bytes: Size of the file.
        first_layer: The first of its layers, from 1.
        last_layer: The last of its layers; rows may leave after it.
        inputs: Its inputs; those that the tokenizer does not give are outputs of the stage before.
        outputs: Its outputs.
        score: Name of the output that is compared with the rule's cut.
        answer: Name of the output that is the answer of a row that leaves.
    """

    file: str
    sha256: str
    bytes: int
    first_layer: int
    last_layer: int
    inputs: list[Port]
    outputs: list[Port]
    score: str
    answer: str


@dataclass(frozen=True)
class RuleFacts:
    """The halting rule.

    Attributes:
        text: The rule with its threshold, as `--rule` takes it.
        threshold: The threshold; None for a rule without one.
        cut: A row leaves where its score is at least this; null: none leaves before the last stage.
    """

    text: str
    threshold: float | None
    cut: float | None


@dataclass(frozen=True)
class TokenizerFacts:
    """How texts become tokens.

    Attributes:
        file: Name of its file, as the library `tokenizers` writes it.
        sha256: SHA-256 of the file.
        max_length: Most tokens of a text, special ones included; longer texts are cut.
        padding_id: Id of the padding token; rows are padded on the right.
        token_types: Whether the model reads token types.
    """

    file: str
    sha256: str
    max_length: int
    padding_id: int
    token_types: bool


@dataclass(frozen=True)
class Manifest:
    """The contents of dact.json.

    Attributes:
        kind: `classes`, `multilabel` or `regression`.
        labels: The labels as the data write them; empty for a regression.
        label_thresholds: The probability from which on a label is there, for label sets: one, or one for each label.
        columns: The columns of `text` and `pair` in files of texts; empty where the run does not know them.
        layers: Layers of the export.
        model_layers: Layers of the model, N.
        precision: `float32` or `int8`.
        stages: The parts, in order.
        rule: The halting rule.
        tokenizer: The tokenizer.
        certificate: The certificate of the rule, as `calibration.json` has it; None without one.
        changed: What the export changes at full depth, against the PyTorch model: `examples`, `different` and `rate`;
            None where it was not measured.
        objective: What the model was trained for: `dact`, `layers` or `last`.
        model: The identity of the exported model: digests, type and longest text.
        run: The run's folder, relative to the export.
        fused: How many layers have fused attention.
        opset: Version of the ONNX operators.
        made_with: Versions of the packages.
        float_layers: Layers that are in float32 where the others are int8.
    """

    kind: Kind
    labels: list[str | int]
    label_thresholds: list[float] | None
    columns: dict[str, str | None]
    layers: int
    model_layers: int
    precision: Literal["float32", "int8"]
    stages: list[StageFile]
    rule: RuleFacts
    tokenizer: TokenizerFacts
    certificate: dict[str, Any] | None
    changed: dict[str, Any] | None
    objective: Literal["dact", "layers", "last"]
    model: dict[str, Any]
    run: str
    fused: int
    opset: int
    made_with: dict[str, str] = field(default_factory=dict)
    float_layers: list[int] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of what the answers depend on but for the rule: graphs, tokenizer, labels and their thresholds."""
        files = [*(stage.sha256 for stage in self.stages), self.tokenizer.sha256]
        return hashlib.sha256(json.dumps([files, self.labels, self.label_thresholds]).encode()).hexdigest()

    @property
    def arithmetic(self) -> str:
        """What the layers compute in: `float32`, `int8`, or `int8, layers 1, 2 in float32`."""
        one = "layer" if len(self.float_layers) == 1 else "layers"
        kept = f", {one} {', '.join(map(str, self.float_layers))} in float32" if self.float_layers else ""
        return f"{self.precision}{kept}"

    @property
    def exits(self) -> list[int]:
        """The layers after which rows may leave."""
        return [stage.last_layer for stage in self.stages]

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return asdict(self)


def is_export(folder: Path) -> bool:
    """Whether a folder is an export."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read dact.json.

    Args:
        folder: The export.

    Raises:
        ArtefactError: The folder is no export, or the file is damaged.
    """
    path = folder / MANIFEST
    if not is_export(folder):
        fault = "no such folder" if not folder.exists() else f"is not an export: it has no {MANIFEST}"
        raise ArtefactError(fault, place=str(folder), remedy="make one with: dact export RUN --to FOLDER")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_format(document.pop("format", None), str(path))
        found = Manifest(
            **{
                **document,
                "stages": [_stage(stage) for stage in document["stages"]],
                "rule": RuleFacts(**document["rule"]),
                "tokenizer": TokenizerFacts(**document["tokenizer"]),
            }
        )
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtefactError("is damaged", place=str(path), remedy="export the run again") from None
    return found


def _stage(document: dict[str, Any]) -> StageFile:
    ports = {name: [Port(**port) for port in document[name]] for name in ("inputs", "outputs")}
    return StageFile(**{**document, **ports})


def _check(found: Manifest) -> None:
    """Raise ValueError where a value cannot be meant."""
    whole = [found.layers, found.model_layers, found.tokenizer.max_length, found.tokenizer.padding_id, found.opset]
    whole += found.float_layers
    whole += [number for stage in found.stages for number in (stage.first_layer, stage.last_layer, stage.bytes)]
    names = [found.tokenizer.file, *(stage.file for stage in found.stages)]
    cut = found.rule.cut
    exits = found.exits
    sound: list[Callable[[], bool]] = [
        lambda: found.kind in ("classes", "multilabel", "regression") and found.precision in ("float32", "int8"),
        lambda: all(type(number) is int and number >= 0 for number in whole),
        # a name must not lead out of the folder
        lambda: all(isinstance(name, str) and Path(name).name == name for name in names),
        lambda: bool(exits) and exits == sorted(set(exits)) and exits[-1] == found.layers,
        lambda: cut is None or (_is_number(cut) and math.isfinite(cut)),
        lambda: (found.kind == "multilabel") == (found.label_thresholds is not None),
        lambda: all(map(_is_number, found.label_thresholds or [])),
        lambda: all(isinstance(label, str | int) for label in found.labels),
        lambda: all(isinstance(name, str | None) for name in found.columns.values()) and isinstance(found.run, str),
        lambda: (found.kind == "regression") == (not found.labels),
        lambda: all({stage.score, stage.answer} <= {port.name for port in stage.outputs} for stage in found.stages),
    ]
    if not all(check() for check in sound):
        raise ValueError


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the files of an export with its manifest.

    Args:
        folder: The export.
        manifest: Its manifest.

    Raises:
        ArtefactError: A file is missing or damaged.
    """
    wanted = {stage.file: stage.sha256 for stage in manifest.stages}
    wanted[manifest.tokenizer.file] = manifest.tokenizer.sha256
    for name, digest in wanted.items():
        path = folder / name
        try:
            fault = None if sha256(path) == digest else "is damaged"
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if fault:
            raise ArtefactError(fault, place=str(path), remedy="export the run again")
