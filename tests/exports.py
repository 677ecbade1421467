"""Exports of small models, for tests that need the extra `onnx`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from support import FAMILIES, small_model, words

from dactcli.api.common import open_run
from dactcli.api.export import export
from dactcli.halting.decision import score_layers
from dactcli.halting.rules import Confidence
from dactcli.runs.load import Run, save_model
from dactcli.runtime import ExportedModel, load

TEXTS = [
    "the key to the cabinets is rusty .",
    "the keys are old .",
    "the boy near the dogs runs .",
    "key",
    "the cats near the old dog that the boy sees are rusty . the key is old .",
    "",
]


def saved(folder: Path, family: str = "bert", **settings: Any) -> Run:
    """A random model of a family that is saved and loaded, with the tokenizer of the built-in task."""
    assert family in FAMILIES
    model, tokenizer = small_model(family, **settings), words(family)
    tokenizer.model_max_length = 48
    model.resize_token_embeddings(len(tokenizer))
    save_model(model, tokenizer, folder)
    return open_run(folder)


def exported(run: Run, to: Path, **fields: Any) -> ExportedModel:
    """Its export, loaded with one thread."""
    export(run, to=to, **fields)
    return load(to, threads=1)


def halving_rule(run: Run, layer: int = 1) -> str:
    """A rule by which some texts leave after a layer and some do not; none is near its threshold."""
    batch = run.tokenizer(TEXTS, padding=True, return_tensors="pt")
    scores = score_layers(Confidence(1.0), *run.model.layer_outputs(**batch)[:2]).scores
    sure = sorted(scores[:, layer - 1].tolist())
    gaps = [after - before for before, after in pairwise(sure)]
    at = max(range(1, len(gaps) - 1), key=gaps.__getitem__)
    return f"confidence:{(sure[at] + sure[at + 1]) / 2}"


def apart(one: Any, other: Any) -> float:
    """The largest difference of two lists of probabilities or values."""
    return float(np.abs(np.array(one, dtype=np.float64) - np.array(other, dtype=np.float64)).max())
