"""Load an export and predict with it, from text to answer.

C classes, E examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dactcli.errors import ArtefactError, ResourceError, UsageError, first_line
from dactcli.results.predict import UNFINITE, Prediction
from dactcli.runtime.engine import Answers, StageRunner, answer_rows, layer_outputs
from dactcli.runtime.manifest import Manifest, check_files, read_manifest
from dactcli.runtime.tokens import Rows, TextTokenizer, Tokens

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
TOKENS = 1024  # most tokens of a batch; survivors wait for half of them


@dataclass(frozen=True)
class ExportedModel:
    """An export that is loaded.

    Attributes:
        folder: Its folder.
        manifest: What it consists of.
        tokenizer: Its tokenizer.
        runner: Its stages.
    """

    folder: Path
    manifest: Manifest
    tokenizer: TextTokenizer
    runner: StageRunner

    def predict(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_tokens: int = TOKENS
    ) -> list[Prediction]:
        """Answer texts, each with no more stages than it needs.

        Args:
            texts: The texts.
            pairs: Second texts, for models of pairs.
            batch_tokens: Most tokens of a batch, padding included; one text may have more.

        Returns:
            One prediction per text, in order; one whose answer is not finite says so in `error`.

        Raises:
            UsageError: `texts` is one text and not a list, or there are not as many second texts.
        """
        for name, value in (("texts", texts), ("pairs", pairs)):
            if isinstance(value, str):
                raise UsageError("is one text, and a list is needed", place=f"`{name}`", remedy=f"write [{value!r}]")
        return self.answer(self.tokenizer(texts, pairs), batch_tokens) if texts else []

    def answer(self, tokens: Tokens, batch_tokens: int = TOKENS) -> list[Prediction]:
        """As `predict`, for texts that are tokenised."""
        found = answer_rows(self.runner, tokens.batches(batch_tokens), len(tokens.ids), regroup=batch_tokens // 2)
        predictions = _predictions(self.manifest, found)
        for row in np.flatnonzero(~np.isfinite(found.answer).all(1)):
            predictions[row] = Prediction.failed(UNFINITE)
        return predictions

    def layer_outputs(self, tokens: Tokens) -> Rows:
        """The outputs of every layer; see `dactcli.runtime.engine.layer_outputs`."""
        return layer_outputs(self.runner, tokens.batches(TOKENS), len(tokens.ids))


def load(folder: Path | str, *, threads: int | None = None, device: str = "cpu") -> ExportedModel:
    """Load an export; its files are compared with their digests.

    Args:
        folder: The export.
        threads: Threads that run it. Default: those of ONNX Runtime, one per core.
        device: `cpu`, or `cuda` with the package onnxruntime-gpu. A certificate was measured on the processor.

    Raises:
        ArtefactError: The folder is no export, or a file is missing or damaged.
        ResourceError: onnxruntime or tokenizers is not installed, or onnxruntime does not have the device.
        UsageError: The number of threads is below 1, or there is no device of that name.
    """
    folder = Path(folder)
    if device not in PROVIDERS:
        raise UsageError(f"is {device!r}", place="`device`", remedy=f"use one of {', '.join(PROVIDERS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"is {threads}", place="`threads`", remedy="give at least 1")
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    tokenizer = TextTokenizer(folder / manifest.tokenizer.file, manifest.tokenizer)
    sessions = [_session(folder / stage.file, threads, device) for stage in manifest.stages]
    return ExportedModel(folder, manifest, tokenizer, StageRunner(manifest, sessions))


def _session(path: Path, threads: int | None, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ResourceError("onnxruntime is not installed", remedy="pip install onnxruntime") from None
    providers = PROVIDERS[device]
    if providers[0] not in onnxruntime.get_available_providers():
        fault = f"this onnxruntime has no {providers[0]}"
        raise ResourceError(fault, place=f"`device` {device}", remedy="pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0
    # stages run one after the other: threads of one that wait by spinning would take the cores from the next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes, which share no base
        raise ArtefactError(
            f"onnxruntime {onnxruntime.__version__} cannot load it: {first_line(error)}",
            place=str(path),
            remedy="update onnxruntime, or export the run again",
        ) from None


def _predictions(manifest: Manifest, found: Answers) -> list[Prediction]:
    """The answers and exit layers in the form that users see."""
    layers = found.exit_layer.tolist()
    if manifest.kind == "regression":
        values = found.answer[:, 0].tolist()
        return [Prediction(value, None, [], layer) for value, layer in zip(values, layers, strict=True)]
    decisions = found.answer.argmax(1).tolist()
    if manifest.kind == "multilabel":
        thresholds = np.array(manifest.label_thresholds, dtype=np.float64)
        decisions = [np.flatnonzero(row).tolist() for row in found.answer.astype(np.float64) >= thresholds]
    rows = zip(decisions, found.answer.tolist(), layers, strict=True)
    return [Prediction.decided(decision, shares, layer, manifest.labels) for decision, shares, layer in rows]
