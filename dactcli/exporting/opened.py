"""An export in the place of a run: what its layers answer, computed by ONNX Runtime.

B batch, T tokens, N layers of the export, C classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from dactcli.errors import ArtefactError
from dactcli.exporting.folder import CONFIG, rule_facts
from dactcli.halting.base import Rule
from dactcli.halting.decision import decide
from dactcli.halting.state import HaltingState
from dactcli.model.config import DactConfig
from dactcli.model.configured import Configured
from dactcli.model.engine import EngineOutput, Trace
from dactcli.runs.calibration import calibration_of
from dactcli.runs.identity import config_digest, identify
from dactcli.runs.load import Run, load_run, read_recipe
from dactcli.runtime import ExportedModel, load
from dactcli.runtime.manifest import MANIFEST, read_manifest
from dactcli.runtime.tokens import Tokens
from dactcli.storage import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.results import Calibration, ChangedAnswers
    from dactcli.runtime import Manifest


class OnnxModel(Configured):
    """The answers of an export, by the names under which a model gives them.

    Args:
        exported: The export.
        config: The configuration of the model that was exported.
    """

    training = False
    device = torch.device("cpu")

    def __init__(self, exported: ExportedModel, config: DactConfig) -> None:
        self.exported, self.config = exported, config
        self.exits = exported.manifest.exits
        self.classes: int = config.num_labels
        self.exit_heads = SimpleNamespace(layers=exported.manifest.layers)

    def eval(self) -> OnnxModel:
        """Itself: it is always in evaluation mode."""
        return self

    def train(self, mode: bool) -> OnnxModel:
        """Itself, where it is asked to stay in evaluation mode."""
        assert not mode
        return self

    def layer_outputs(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The outputs of every layer, as `DactForSequenceClassification.layer_outputs` gives them."""
        lengths = attention_mask.sum(1).tolist()
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        ids, kinds = (
            [row[:length] for row, length in zip(part.tolist(), lengths, strict=True)] for part in (input_ids, types)
        )
        found = self.exported.layer_outputs(Tokens(ids, kinds, self.exported.manifest.tokenizer.padding_id))
        y, h = torch.from_numpy(found["layer_answer"]), torch.from_numpy(found["halting"])
        return y, h, torch.from_numpy(found["certainty"]) if "certainty" in found else None

    def adaptive(self, rule: Rule, batch: Mapping[str, Tensor], *, trace: bool = False) -> EngineOutput:
        """What the rule decides for each row of a batch; all layers run, so that every score is known.

        Args:
            rule: The rule.
            batch: As for `layer_outputs`.
            trace: Whether to keep what every layer said.
        """
        y, h, certainty = self.layer_outputs(**batch)
        rule = rule.of(self.answers)
        stops, answer = decide(rule, y, h, certainty, mixes=self.mixes, exits=self.exits)
        if not trace:
            return EngineOutput(stops, answer, None)
        rows, layers, classes = y.shape
        found = Trace.empty(rows, layers, classes, y)
        state = HaltingState.start(rows, classes, layers=layers, mixes=self.mixes, like=y, streaks=rule.streaks)
        for layer in range(layers):
            state.step(y[:, layer], h[:, layer], None if certainty is None else certainty[:, layer])
            found.record(state, h[:, layer], rule)
        return EngineOutput(stops, answer, found)


def open_exported(folder: Path) -> Run:
    """Load an export in the place of a run.

    Args:
        folder: The export.

    Raises:
        ArtefactError: It is damaged, or an earlier version wrote it, without the model's configuration.
        ResourceError: onnxruntime is not installed.
    """
    exported = load(folder)
    manifest = exported.manifest
    config = _config(folder, manifest)
    config.rule = manifest.rule.text
    model = cast("DactForSequenceClassification", OnnxModel(exported, config))
    certificate = None
    if manifest.certificate is not None:
        document = {name: value for name, value in manifest.certificate.items() if name != "promise"}
        certificate = calibration_of(document)
    return Run(folder, model, _tokenizer(folder, manifest), read_recipe(folder), exported=True, certificate=certificate)


def origin(folder: Path) -> Run:
    """The run that an export was made from.

    Args:
        folder: The export.

    Raises:
        ArtefactError: It is not there any more, or it has changed.
    """
    manifest = read_manifest(folder)
    place = Path(os.path.normpath(folder / manifest.run))
    remedy = "put it back, or export the run again"
    if not place.is_dir():
        raise ArtefactError(f"was made from {place}, which is not there", place=str(folder), remedy=remedy)
    found = load_run(place)
    if vars(identify(found)).items() - manifest.model.items():
        raise ArtefactError(f"was made from {place}, which has changed since", place=str(folder), remedy=remedy)
    return found


def keep_certificate(run: Run, rule: Rule, certificate: Calibration, changed: ChangedAnswers) -> None:
    """Write a certificate and its rule into an export.

    Args:
        run: The export.
        rule: The rule with the threshold that was certified; its score is the one in the graphs.
        certificate: The certificate.
        changed: How many answers the export alone changes.

    Raises:
        ResourceError: The folder cannot be written.
    """
    manifest = read_manifest(run.folder)
    told = replace(manifest, rule=rule_facts(rule), certificate=certificate.to_json(), changed=changed.to_json())
    write_json(run.folder / MANIFEST, told.to_json())


def _config(folder: Path, manifest: Manifest) -> DactConfig:
    path = folder / CONFIG
    try:
        intact = config_digest(folder) == manifest.model["config_sha256"]
    except (OSError, ValueError):
        intact = False
    if not intact:
        raise ArtefactError("is missing or damaged", place=str(path), remedy="export the run again")
    return cast("DactConfig", DactConfig.from_pretrained(folder))


def _tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    from transformers import PreTrainedTokenizerFast

    facts = manifest.tokenizer
    found: Any = PreTrainedTokenizerFast(tokenizer_file=str(folder / facts.file), model_max_length=facts.max_length)
    found.pad_token = found.convert_ids_to_tokens(facts.padding_id)
    names = ["input_ids", *(["token_type_ids"] if facts.token_types else []), "attention_mask"]
    found.model_input_names = names
    return cast("Tokenizer", found)
